"""Worker processes that are to die or to freeze at a crash point."""

from __future__ import annotations

import signal
from pathlib import Path

from ryla_tasks.crashpoints import VARIABLE
from tests.support.fleet import Fleet, WorkerProcess, eventually

__all__ = ["Kept", "quick_worker", "victim", "wait_struck"]

QUICK_APP = "tests.support.chaos.quick_app"


def quick_worker(fleet: Fleet, *options: str, **env: str) -> WorkerProcess:
    """A worker with short leases."""
    return fleet.worker("--concurrency", "4", *options, app=QUICK_APP, **env)


class Kept:
    """Workers that are started again when they end, as `ryla worker`, systemd or Kubernetes does.

    Celery 5.7's worker may end when its connection to Redis breaks while it holds a message that is not acknowledged.
    """

    def __init__(self, fleet: Fleet, count: int, **env: str) -> None:
        self._fleet, self._env = fleet, env
        self._workers = [quick_worker(fleet, **env) for _ in range(count)]
        self.ended = 0

    def look(self) -> None:
        """Start those again that have ended."""
        for place, worker in enumerate(self._workers):
            if not worker.alive():
                self.ended += 1
                self._workers[place] = quick_worker(self._fleet, **self._env)


def victim(fleet: Fleet, point: str, nth: int = 1, mode: str = "kill", **env: str) -> WorkerProcess:
    """One that dies, or freezes, at its nth pass of a point."""
    return quick_worker(fleet, **env, **{VARIABLE: f"{point}:{nth}:{mode}"})


def wait_struck(worker: WorkerProcess, mode: str = "kill", timeout: float = 45.0) -> None:
    """Until the point has been passed and its signal has struck."""
    if mode == "kill":
        eventually(lambda: not worker.alive(), timeout=timeout, every=0.05, what=f"{worker.name} killed")
        assert worker._process.returncode == -signal.SIGKILL, worker.text[-3000:]
    else:
        eventually(lambda: _stopped(worker.pid), timeout=timeout, every=0.05, what=f"{worker.name} stopped")


def _stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"
