"""AI Toolkit as a process: started in a group of its own, read line by line, and ended as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from workers.lora_trainer.lines import LineSplitter

__all__ = ["Toolkit", "toolkit_env"]

#: Called with each line, as it comes, of both streams.
OnLine = Callable[[str], None]

_LEASH = Path(__file__).with_name("leash.py")
_CHUNK = 65_536
#: How long the pipes may stay open after the end: a grandchild may hold them.
_DRAIN_S = 2.0
_KILL_S = 5.0

#: The trainer runs code of many authors and has no use for these.
_KEPT_BACK = ("BUCKET_", "AWS_", "RUNPOD_", "RYLA_")


def toolkit_env(env: Mapping[str, str], *, volume: Path | None) -> dict[str, str]:
    """The trainer's environment: this process's own, without its secrets, and with models kept on the volume."""
    kept = {name: value for name, value in env.items() if not name.startswith(_KEPT_BACK)}
    kept.pop("PYTHONPATH", None)
    # What is printed into a pipe would come in blocks, and progress with it.
    kept |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    if volume is not None:
        kept.setdefault("HF_HOME", str(volume / "huggingface"))
    return kept


class Toolkit:
    """One run of `run.py`. Make it with `start`; whoever made it calls `stop`, whatever happened."""

    def __init__(self, process: asyncio.subprocess.Process, on_line: OnLine) -> None:
        self._process = process
        self._ending: asyncio.Task[None] | None = None
        self._readers = [
            asyncio.create_task(_read(stream, on_line)) for stream in (process.stdout, process.stderr) if stream
        ]

    @classmethod
    async def start(
        cls, config: Path, *, python: str, toolkit: Path, env: Mapping[str, str], on_line: OnLine
    ) -> Toolkit:
        """Start training. `OSError` where the program is not there."""
        process = await asyncio.create_subprocess_exec(
            python, str(_LEASH), str(os.getpid()), python, "run.py", str(config),
            cwd=toolkit, env=dict(env), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return cls(process, on_line)

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; negative for a signal, None while it runs. 0 alone does not mean that it has trained."""
        return self._process.returncode

    async def wait(self, timeout_s: float) -> bool:
        """Wait for the end, and for the last lines. False when it has not come within the time."""
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            return False
        _, open_still = await asyncio.wait(self._readers, timeout=_DRAIN_S)
        for reader in open_still:
            reader.cancel()
        return True

    async def stop(self, patience_s: float) -> None:
        """End it: SIGINT, which AI Toolkit understands, then SIGTERM, then SIGKILL for all that is left of the group.

        Returns when the process is gone. Runs to its end even if the task that calls it is cancelled again.
        """
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(patience_s))
        await asyncio.shield(self._ending)

    async def _end(self, patience_s: float) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if self.code is not None:
                break
            self._signal(number)
            await self.wait(patience_s)
        self._signal(signal.SIGKILL)
        await self.wait(_KILL_S)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


async def _read(stream: asyncio.StreamReader, on_line: OnLine) -> None:
    splitter = LineSplitter()
    while data := await stream.read(_CHUNK):
        for line in splitter.feed(data):
            on_line(line)
    for line in splitter.feed(b"", last=True):
        on_line(line)
