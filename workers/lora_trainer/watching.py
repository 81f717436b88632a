"""One run of AI Toolkit from its start to its end: progress told, checkpoints kept, limits held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workers.common.reporting import Reporter
from workers.lora_trainer.bars import parse_bar
from workers.lora_trainer.checkpoints import CheckpointWatch, Steady
from workers.lora_trainer.errors import TrainerMisconfigured, TrainingTimeOut
from workers.lora_trainer.lines import Tail
from workers.lora_trainer.losses import read_losses
from workers.lora_trainer.output import Uploads
from workers.lora_trainer.progress import Tracker
from workers.lora_trainer.resume import Kept
from workers.lora_trainer.settings import Settings
from workers.lora_trainer.toolkit import Toolkit, toolkit_env

__all__ = ["Run"]


@dataclass
class Run:
    """A run that is to be, with all that it needs. `output` is the folder that AI Toolkit writes to."""

    config: Path
    output: Path
    tracker: Tracker
    watch: CheckpointWatch
    settings: Settings
    reporter: Reporter
    uploads: Uploads
    kept: Kept | None
    deadline: float
    env: Mapping[str, str]
    tail: Tail = field(default_factory=Tail)
    _heard_at: float = 0.0
    _optimizer: Steady = field(default_factory=Steady)
    _optimizer_due: bool = False
    _samples: set[str] = field(default_factory=set)

    async def until_end(self) -> int:
        """Train; the exit code. Cancelled, or over a limit, AI Toolkit is stopped first; what was complete is kept."""
        self._heard_at = time.monotonic()
        try:
            toolkit = await Toolkit.start(
                self.config,
                python=self.settings.python,
                toolkit=self.settings.toolkit,
                env=toolkit_env(self.env, volume=self.settings.volume),
                on_line=self._on_line,
            )
        except OSError as error:
            raise TrainerMisconfigured("AI Toolkit could not be started on the GPU worker.", _about(error)) from None
        try:
            while not await toolkit.wait(self.settings.poll_s):
                await self._look(toolkit.pid)
                self._check_limits()
        finally:
            await toolkit.stop(self.settings.stop_s)
            # Within reach of a second cancel: it is over in the time that copying a checkpoint takes.
            await asyncio.shield(asyncio.create_task(self._look(None)))
        assert toolkit.code is not None
        return toolkit.code

    def _on_line(self, line: str) -> None:
        self._heard_at = now = time.monotonic()
        bar = parse_bar(line)
        self.tail.add(line, bar=bar.name if bar else "")
        if bar is not None:
            self.tracker.bar(bar, now)
        else:
            self.tracker.line(line)

    async def _look(self, pid: int | None) -> None:
        row = await asyncio.to_thread(read_losses, self.output / "loss_log.db")
        if row is not None:
            self.tracker.losses(row, time.monotonic())
        self._tell()
        for checkpoint in await asyncio.to_thread(self.watch.look, pid):
            if self.kept is not None:
                await self._keep(checkpoint.path, checkpoint.step)
            self.uploads.add(checkpoint.path, "checkpoint")
        await self._keep_optimizer(pid)
        for sample in await asyncio.to_thread(self._new_samples, pid):
            self.uploads.add(sample, "sample")

    def _tell(self) -> None:
        told = self.tracker.progress(time.monotonic()).to_json()
        self.reporter.tell(told.pop("percent", None), told.pop("message", ""), **told)

    async def _keep(self, path: Path, step: int) -> None:
        assert self.kept is not None
        try:
            await asyncio.to_thread(self.kept.keep, path, step)
            self._optimizer_due = True
        except OSError as error:
            # A volume that is full is a worse place to go on from, and no reason to stop.
            self.tracker.warnings.add(f"A checkpoint was not kept on the volume ({type(error).__name__}).")

    async def _keep_optimizer(self, pid: int | None) -> None:
        state = self.output / "optimizer.pt"
        if self.kept is None or not self._optimizer_due:
            return
        if pid is None or await asyncio.to_thread(self._optimizer.is_steady, state, pid):
            self._optimizer_due = False
            try:
                await asyncio.to_thread(self.kept.keep_optimizer, state)
            except OSError:
                self.tracker.warnings.add("The optimizer's state was not kept on the volume.")

    def _new_samples(self, pid: int | None) -> list[Path]:
        """Samples that have not been given yet: all but the newest, which may still be written, until the end."""
        found = sorted(path for path in (self.output / "samples").glob("*") if path.name not in self._samples)
        ready = found if pid is None else found[:-1]
        self._samples.update(path.name for path in ready)
        return ready

    def _check_limits(self) -> None:
        now = time.monotonic()
        details = {"step": self.tracker.step, "steps": self.tracker.steps, "phase": self.tracker.phase}
        if now > self.deadline:
            limit = {"limit_s": self.settings.time_limit_s}
            raise TrainingTimeOut("The training took longer than this worker allows.", details | limit)
        if now - self._heard_at > self.settings.quiet_s:
            raise TrainingTimeOut(
                "The training has stopped making progress.",
                details | {"quiet_s": self.settings.quiet_s, "log": self.tail.lines(10)},
            )


def _about(error: OSError) -> dict[str, str]:
    return {"error_type": type(error).__name__, "error_message": str(error)[:500]}
