"""A child process: started in a process group of its own, its output handed on by lines, stopped for sure."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ryla_tasks.embedded.watchdog import Watchdog

__all__ = ["Child"]

#: How long after a process has ended the rest of its output is waited for; a grandchild may hold the pipe open.
_LAST_WORDS_S = 1.0


class Child:
    """One run of a program.

    It is in a session of its own, so that Ctrl-C in the terminal reaches only its parent, which decides. It ends with
    its parent, even when that is killed. `on_line` gets each line of its output, standard error included, from a
    thread; without it the child writes where its parent does. `on_end` is called once, from a thread, after the last
    line.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_end: Callable[[Child], None] | None = None,
    ) -> None:
        self.name = name
        self.started = time.monotonic()
        self._on_line = on_line
        self._on_end = on_end
        self._process = subprocess.Popen(  # noqa: S603
            list(command),
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=None if on_line is None else subprocess.PIPE,
            stderr=None if on_line is None else subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
        self._watchdog = Watchdog(self._process.pid)
        self._reader = threading.Thread(target=self._read, name=f"{name}-output", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, name=f"{name}-end", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.poll()

    @property
    def how_it_ended(self) -> str:
        """In words: `exit code 1`, `SIGKILL`."""
        code = self.returncode
        if code is None:
            return "still running"
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False if it has not come in time."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; to one that has ended, nothing."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it, and whatever it has started, at once."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, patience_s: float) -> None:
        """Ask it to end, wait so long, then kill it."""
        self.send(signal.SIGTERM)
        if not self.wait(patience_s):
            self.kill()
        self._watchdog.dismiss()

    def _read(self) -> None:
        if self._process.stdout is None or self._on_line is None:
            return
        with contextlib.suppress(ValueError), self._process.stdout as output:
            for line in output:
                self._on_line(line.rstrip("\n"))

    def _wait(self) -> None:
        self._process.wait()
        self._watchdog.dismiss()
        self._reader.join(_LAST_WORDS_S)
        if self._on_end is not None:
            self._on_end(self)
