"""Nodes for pytest-celery that are processes on this machine, where it would start containers."""

from __future__ import annotations

import signal
from typing import Any

from pytest_celery import CeleryTestContainer

from tests.support.fleet import Fleet, WorkerProcess

__all__ = ["RedisProcess", "WorkerNode"]


class _Process(CeleryTestContainer):
    """What pytest-celery asks of a container. The parents' `__init__` would look for one at a Docker daemon."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet = fleet
        self._name = name

    @property
    def id(self) -> str:
        return self._name

    @property
    def name(self) -> str:
        return self._name

    @property
    def celeryconfig(self) -> dict[str, Any]:
        url = self._fleet.redis.url
        return {"url": url, "host_url": url}

    def reload(self) -> None:
        """There is no cached state."""


class RedisProcess(_Process):
    """The fleet's Redis: broker and result backend."""

    @property
    def status(self) -> str:
        return "running" if self._fleet.redis.running else "exited"

    def logs(self, **_options: Any) -> str:
        return self._fleet.redis.log_tail(1000)

    def ready(self) -> bool:
        return self._fleet.redis.running

    def kill(self, signal: str | int = "SIGKILL") -> None:
        self._fleet.redis.kill()

    def restart(self, timeout: float = 10) -> None:
        self._fleet.redis.stop()
        self._fleet.redis.start()


class WorkerNode(_Process):
    """A worker process of the fleet. Its log goes on over restarts."""

    def __init__(self, fleet: Fleet, name: str, *options: str) -> None:
        super().__init__(fleet, name)
        self._options = options
        self._processes: list[WorkerProcess] = []
        self._start()

    @property
    def status(self) -> str:
        return "running" if self._processes[-1].alive() else "exited"

    @property
    def ready_prompt(self) -> str:
        return " ready."

    def logs(self, **_options: Any) -> str:
        return "".join(process.text for process in self._processes)

    def ready(self) -> bool:
        self._processes[-1].wait_ready()
        return True

    def kill(self, signal: str | int = "SIGKILL") -> None:
        process, number = self._processes[-1], _number(signal)
        if number == _KILL:
            process.kill()
        else:
            process.signal(number)

    def restart(self, timeout: float = 10) -> None:
        self._processes[-1].stop(timeout)
        self._start()
        self.ready()

    def teardown(self) -> None:
        self._processes[-1].kill()

    def worker_name(self) -> str:
        return self._name

    def _start(self) -> None:
        self._processes.append(self._fleet.worker(*self._options))


_KILL = int(signal.SIGKILL)


def _number(name: str | int) -> int:
    return signal.Signals[name] if isinstance(name, str) else name
