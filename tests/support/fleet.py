"""A whole system for tests: Redis, a simulated RunPod, and Celery worker processes, on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import redis

from ryla_tasks.embedded import RedisServer
from ryla_tasks.simulator import EndpointConfig, RunningSimulator, SimulatorConfig

T = TypeVar("T")

#: The endpoints that every test has: name in the settings -> (id at the simulator, program).
ENDPOINTS = {"image": ("img", "image"), "echo": ("echo", "echo"), "lora": ("lora", "echo"), "special": ("spc", "image")}


def eventually(probe: Callable[[], T], *, timeout: float = 20.0, every: float = 0.02, what: str = "") -> T:
    """The first truthy answer of `probe`. Fails after `timeout` seconds, saying what was waited for."""
    end = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what or probe}; last answer {found!r}")
        time.sleep(every)


class WorkerProcess:
    """One Celery worker process, started as a user would; `supervised`, by `ryla worker`; with a Flask app, by it."""

    def __init__(
        self,
        env: dict[str, str],
        log: Path,
        *,
        app: str = "ryla_tasks",
        options: tuple[str, ...] = (),
        supervised: bool = False,
        flask_app: str = "",
    ) -> None:
        self.log = log
        self._file = log.open("ab")
        self.name = f"{log.stem}@test"
        if supervised:
            command = [sys.executable, "-m", "ryla_tasks.cli", "worker", "-n", self.name, *options]
        elif flask_app:
            flask = [sys.executable, "-m", "flask", "--app", flask_app]
            command = [*flask, "ryla-worker", "--no-supervise", "-n", self.name, "--without-mingle", *options]
        else:
            command = [
                sys.executable, "-m", "celery", "-A", app, "worker", "-n", self.name, "-l", "INFO", "--without-mingle",
                "--without-gossip", *options,
            ]  # fmt: skip
        self._process = subprocess.Popen(command, env=env, stdout=self._file, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, timeout: float = 30.0) -> WorkerProcess:
        def ready() -> bool:
            assert self._process.poll() is None, self.text[-3000:]
            return " ready." in self.text

        eventually(ready, timeout=timeout, every=0.05, what=f"{self.name} ready")
        return self

    def alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self.alive():
            self._process.kill()
        self._process.wait(10)

    def stop(self, timeout: float = 40.0) -> int:
        """SIGTERM and wait; SIGKILL if that takes too long."""
        if self.alive():
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(10)
        self._file.close()
        return code


class Fleet:
    """Redis and a simulator, and the environment that points processes at them."""

    def __init__(self, folder: Path, **redis_options: Any) -> None:
        self.folder = folder
        self.redis = RedisServer(**redis_options)
        self.redis.start()
        # Its faults strike by chance; a run of the chaos suite can be had again by its seed.
        self.simulator = RunningSimulator(SimulatorConfig(seed=int(os.environ.get("RYLA_CHAOS_SEED", "0"))))
        self.client = redis.Redis.from_url(self.redis.url)
        self._workers: list[WorkerProcess] = []
        self.reset()

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables of the system."""
        named = {f"RYLA_ENDPOINT_{name.upper()}": endpoint for name, (endpoint, _) in ENDPOINTS.items()}
        return {
            "RYLA_ENV_FILE": "",
            "RYLA_REDIS_URL": self.redis.url,
            "RYLA_RUNPOD_URL": self.simulator.base_url,
            "RUNPOD_API_KEY": self.simulator.key,
            "RYLA_ARTIFACTS": f"file://{self.folder}/artifacts",
            **named,
        }

    def env(self, **more: str) -> dict[str, str]:
        """A process environment; `more` goes over it."""
        return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **self.settings, **more}

    def endpoint(self, name: str = "image") -> Any:
        """The simulator's control face of an endpoint: counters, jobs, faults, update."""
        return self.simulator.endpoint(ENDPOINTS[name][0])

    def reset(self, **changes: Any) -> None:
        """Forget all jobs, in Redis and at the simulator; endpoints are warm and quick unless changed."""
        defaults = {
            "workers_min": 50, "workers_max": 50, "cold_start_s": 0.0, "queue_delay_s": 0.1, "run_s": 0.5, "steps": 4,
        }  # fmt: skip
        for view in self.simulator.endpoints():
            self.simulator.endpoint(view.config.endpoint_id).remove()
        for endpoint_id, program in ENDPOINTS.values():
            config = EndpointConfig(endpoint_id=endpoint_id, program=program, **{**defaults, **changes})
            self.simulator.add_endpoint(config)
        self.forget_jobs()

    def forget_jobs(self) -> None:
        """Drop our keys and Celery's messages and results, but not the bindings that live workers have made."""
        keys = [
            key for pattern in ("ryla:*", "celery-task-meta-*", "chord-*", "unacked*") for key in self._scan(pattern)
        ]
        queues = [key for key in self._scan("ryla.*") if not key.startswith(b"ryla.reply")]
        if keys or queues:
            self.client.delete(*keys, *queues)

    def _scan(self, pattern: str) -> Iterator[bytes]:
        found: Iterator[bytes] = self.client.scan_iter(pattern, count=1000)
        return found

    def worker(
        self, *options: str, app: str = "ryla_tasks", supervised: bool = False, flask_app: str = "", **env: str
    ) -> WorkerProcess:
        """Start a worker process; it is stopped with the fleet at the latest."""
        log = self.folder / f"worker-{len(self._workers)}-{time.monotonic_ns() % 10**9}.log"
        worker = WorkerProcess(
            self.env(**env), log, app=app, options=options, supervised=supervised, flask_app=flask_app
        )
        self._workers.append(worker)
        return worker

    def workers(self, count: int, *options: str, **more: Any) -> list[WorkerProcess]:
        """Start some worker processes together, and wait until all are ready; `more` is as for `worker`."""
        started = [self.worker(*options, **more) for _ in range(count)]
        return [worker.wait_ready() for worker in started]

    def stop_workers(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def close(self) -> None:
        self.stop_workers()
        self.simulator.stop()
        self.client.close()
        self.redis.close()
