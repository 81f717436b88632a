"""The system under measurement: an embedded Redis, a simulator and Celery worker processes, on loopback.

Each is a process of its own, so that its CPU time and memory can be told apart; each is stopped by its own id.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import redis

from ryla_tasks.embedded import RedisServer
from ryla_tasks.simulator import DEFAULT_KEY, EndpointConfig, SimulatorClient, SimulatorConfig

__all__ = ["ENDPOINT", "OURS", "PLAIN", "ROOT", "Stopwatch", "System", "Worker", "eventually"]

T = TypeVar("T")

ROOT = Path(__file__).parents[1]

#: The two sides: the Celery app that a worker process loads.
OURS, PLAIN = "ryla_tasks", "benchmarks.plain_celery"

#: The endpoint's id at the simulator, and its name in the settings.
ENDPOINT = "bench"

#: How many threads a worker of either side has.
CONCURRENCY = 4


def eventually(probe: Callable[[], T], *, timeout: float, what: str, every: float = 0.05) -> T:
    """The first truthy answer of `probe`. Raises `TimeoutError` saying what was waited for."""
    end = time.monotonic() + timeout
    while not (found := probe()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:g} s: {what}; last answer {found!r}")
        time.sleep(every)
    return found


class Stopwatch:
    """CPU and wall seconds of a process since the watch was made."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._cpu, self._wall = self._cpu_now(), time.monotonic()

    def _cpu_now(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def cpu_s(self) -> float:
        """User and system time of all its threads."""
        return self._cpu_now() - self._cpu

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._wall


class Worker:
    """A Celery worker process, started as a user would: threads pool, four slots, events on."""

    def __init__(self, app: str, env: dict[str, str], log: Path) -> None:
        self._log = log
        command = [
            sys.executable, "-m", "celery", "-A", app, "worker", "-P", "threads", "-c", str(CONCURRENCY), "-E",
            "-l", "WARNING", "--without-mingle", "--without-gossip", "-n", f"{app.rpartition('.')[2]}@bench",
        ]  # fmt: skip
        with log.open("ab") as file:
            self._process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=file, stderr=file)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def rss_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def running(self) -> bool:
        """Whether it runs. Raises `RuntimeError` with the end of its log where it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the worker ended with {self._process.returncode}:\n{self._log.read_text()[-3000:]}")
        return True

    def stop(self) -> None:
        """At once: what it holds is of no use to anybody."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)


class System:
    """Redis and the simulator. A context manager; workers are started and stopped within it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ryla-bench-")
        self._workers: list[Worker] = []
        self._redis = RedisServer()
        self._simulator: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._redis.start()
            self.client = redis.Redis.from_url(self._redis.url)
            config = SimulatorConfig().model_dump_json(exclude={"keys"})
            self._simulator = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.simulator_process", config],
                cwd=ROOT, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert self._simulator.stdout is not None
            about = json.loads(self._simulator.stdout.readline())
        except BaseException:
            self.close()
            raise
        self.simulator = SimulatorClient(about["url"], timeout_s=30)
        #: The monotonic time at which the simulator's clock began.
        self.origin: float = about["origin"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything that was started."""
        self.stop_workers()
        if self._simulator is not None:
            self._simulator.terminate()
            self._simulator.wait(10)
        self._redis.close()
        self._folder.cleanup()

    @property
    def redis_pid(self) -> int:
        pid = self._redis.pid
        assert pid is not None
        return pid

    def settings(self, *, gap_s: float | None = None) -> dict[str, str]:
        """The environment variables of either side. `gap_s` fixes the time between two polls of a job.

        Without it ours polls as it does by default, and plain Celery each second, which is our shortest gap. RunPod's
        rate limits are lifted, here and at the simulator: this measures what a worker can do.
        """
        endpoint: dict[str, Any] = {
            "endpoint_id": ENDPOINT,
            "kind": "image",
            "limits": {"status_per_10s": 1_000_000, "run_per_10s": 1_000_000, "status_concurrent": 10_000},
        }
        if gap_s is not None:
            endpoint |= {"poll_min_s": gap_s, "poll_max_s": gap_s}
        return {
            "RYLA_ENV_FILE": "",
            "RYLA_REDIS_URL": self._redis.url,
            "RYLA_RUNPOD_URL": self.simulator.base_url,
            "RUNPOD_API_KEY": DEFAULT_KEY,
            "RYLA_ARTIFACTS": f"file://{self._folder.name}/artifacts",
            "RYLA_ENDPOINT_BENCH": json.dumps(endpoint),
            "RYLA_ENDPOINT_IMAGE": json.dumps(endpoint),
            "PLAIN_ENDPOINT": ENDPOINT,
            "PLAIN_POLL_S": str(gap_s or 1.0),
        }

    def environment(self, **settings: Any) -> dict[str, str]:
        """A process environment with `settings`."""
        return {**os.environ, **self.settings(**settings)}

    def clear(self, *, jobs: int, run_s: float = 3600.0, steps: int = 0) -> None:
        """Stop the workers and forget every job, in Redis and at the simulator; as many GPU workers as jobs."""
        self.stop_workers()
        self.client.flushall()
        for view in self.simulator.endpoints():
            self.simulator.endpoint(view.config.endpoint_id).remove()
        config = EndpointConfig(
            endpoint_id=ENDPOINT, program="echo", workers_min=jobs, workers_max=jobs, cold_start_s=0.0,
            queue_delay_s=0.0, run_s=run_s, steps=steps, execution_timeout_s=7200.0, rate_limits=False,
        )  # fmt: skip
        self.simulator.add_endpoint(config)

    def worker(self, app: str, **settings: Any) -> Worker:
        """Start a worker process and wait until it answers."""
        worker = Worker(app, self.environment(**settings), Path(self._folder.name) / f"worker-{len(self._workers)}.log")
        self._workers.append(worker)
        # It subscribes to the pattern of its control channel once it consumes.
        eventually(lambda: worker.running() and self.client.pubsub_numpat(), timeout=30, what="the worker is ready")
        return worker

    def stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def messages(self, queue: str) -> int:
        """How many messages wait in a queue; kombu has a list for each of its priorities."""
        return sum(int(self.client.llen(key)) for key in self.client.scan_iter(f"{queue}*", _type="list"))

    def status_calls(self) -> int:
        """How many status calls the simulator has answered with 200."""
        calls = self.simulator.endpoint(ENDPOINT).counters().calls
        return calls.get("status", {}).get(200, 0)

    def accepted(self) -> int:
        """How many jobs the simulator has taken."""
        return self.simulator.endpoint(ENDPOINT).counters().accepted
