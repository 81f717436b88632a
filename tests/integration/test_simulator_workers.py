"""Unmodified workers on RunPod's own SDK, as processes of their own, at an endpoint of the simulator.

What runs by default here and in tests/conformance covers a worker's life; freezes and such are among the load tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ryla_tasks.simulator import EndpointConfig, RunningSimulator, Simulator, SimulatorConfig
from ryla_tasks.simulator.fleet import WorkerState

WORKER = Path(__file__).parents[1] / "support" / "gpu_worker.py"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with Simulator.running(SimulatorConfig(keys=("worker-key",))) as running:
        yield running


class Joined:
    """An endpoint that real processes join."""

    def __init__(self, simulator: RunningSimulator, endpoint_id: str, home: Path, **settings: Any) -> None:
        self.simulator = simulator
        self.control = simulator.add_endpoint(
            EndpointConfig(
                endpoint_id=endpoint_id,
                joined=True,
                cold_start_s=1,
                rate_limits=False,
                **{"ping_interval_s": 1, "lease_s": 2.5, **settings},
            )
        )
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, kind: str, worker_id: str = "gpu-1") -> subprocess.Popen[bytes]:
        """Start a worker and wait until it is there."""
        environment = {**os.environ, **self.simulator.worker_env(self.control.endpoint_id, worker_id)}
        environment |= {"HOME": str(self._home), "RUNPOD_LOG_LEVEL": "INFO"}
        process = subprocess.Popen(
            [sys.executable, str(WORKER), kind],
            env=environment,
            stdout=(self._home / "worker.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes.append(process)
        eventually(lambda: worker_id in [worker.id for worker in self.control.workers()])
        return process

    def call(self, method: str, path: str, **body: Any) -> requests.Response:
        return requests.request(
            method,
            f"{self.simulator.base_url}/{self.control.endpoint_id}/{path}",
            headers={"Authorization": "Bearer worker-key"},
            json=body or None,
            timeout=20,
        )

    def run(self, job_input: dict[str, Any], **options: Any) -> str:
        return str(self.call("POST", "run", input=job_input, **options).json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", f"status/{job_id}").json()
        return answer

    def when(self, job_id: str, *statuses: str) -> dict[str, Any]:
        return eventually(lambda: found if (found := self.status(job_id))["status"] in statuses else None)

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.when(job_id, *ENDED)

    def health(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = self.call("GET", "health").json()
        return found

    @property
    def log(self) -> str:
        return (self._home / "worker.log").read_text()

    def close(self) -> None:
        for process in self._processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()
        self.control.remove()


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
    return value


@pytest.fixture
def join(simulator: RunningSimulator, tmp_path: Path) -> Iterator[Callable[..., Joined]]:
    opened: list[Joined] = []

    def open_one(**settings: Any) -> Joined:
        opened.append(Joined(simulator, f"joined{len(opened)}", tmp_path, **settings))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_an_async_worker_does_jobs_and_shows_in_health_and_cost(join: Callable[..., Joined]) -> None:
    endpoint = join(idle_timeout_s=1)
    waiting = endpoint.run({"progress": [{"percent": 10}, {"percent": 60}], "seconds": 0.5})
    assert endpoint.status(waiting)["status"] == "IN_QUEUE"
    assert endpoint.health()["workers"]["ready"] == 0
    process = endpoint.start("async")
    running = eventually(lambda: found if (found := endpoint.status(waiting)).get("output") else None)
    assert (running["status"], running["output"], running["workerId"]) == ("IN_PROGRESS", {"percent": 10}, "gpu-1")
    assert endpoint.health()["workers"]["running"] == endpoint.health()["jobs"]["inProgress"] == 1
    done = endpoint.ended(waiting)
    assert (done["status"], done["output"]["pid"]) == ("COMPLETED", process.pid)
    assert 1000 < done["executionTime"] < 5000
    assert endpoint.health()["workers"]["idle"] == endpoint.health()["jobs"]["completed"] == 1
    idle = eventually(lambda: endpoint.control.workers()[0].state is WorkerState.STANDBY)
    assert idle
    cost = endpoint.control.counters()
    assert (cost.accepted, cost.billable_starts, cost.ended) == (1, 1, {"COMPLETED": 1})
    assert 2 <= cost.billable_seconds <= 12
    assert endpoint.ended(endpoint.run({"n": 2}))["output"]["echo"] == {"n": 2}


def test_failures_and_stops_are_those_of_the_sdk(join: Callable[..., Joined]) -> None:
    endpoint = join(output_limit_bytes=100_000, execution_timeout_s=3)
    endpoint.start("async")
    raised = endpoint.ended(endpoint.run({"raise": "no such model"}))
    assert raised["status"] == "FAILED"
    said = json.loads(raised["error"])
    assert (said["error_message"], said["worker_id"]) == ("no such model", "gpu-1")
    returned = endpoint.ended(endpoint.run({"answer": {"error": "no face", "code": "no_face"}}))
    assert (returned["status"], returned["error"], returned["output"]["code"]) == ("FAILED", "no face", "no_face")
    large = endpoint.ended(endpoint.run({"bytes": 200_000}))
    assert large["status"] == "COMPLETED"
    assert "output" not in large
    assert endpoint.control.counters().calls["job-done"][400] >= 1
    assert endpoint.ended(endpoint.run({"bytes": 50_000}))["output"] == {"data": "x" * 50_000}
    check_stops(endpoint)


def check_stops(endpoint: Joined) -> None:
    """A cancel and a time-out stop an async handler at once, and it sends no result."""
    results = endpoint.control.counters().calls["job-done"][200]
    cancelled = endpoint.run({"seconds": 60})
    endpoint.when(cancelled, "IN_PROGRESS")
    assert endpoint.call("POST", f"cancel/{cancelled}").json()["status"] == "CANCELLED"
    assert endpoint.ended(endpoint.run({"n": 1}))["status"] == "COMPLETED"
    assert endpoint.ended(endpoint.run({"seconds": 60}))["status"] == "TIMED_OUT"
    eventually(lambda: endpoint.log.count("Job stopped.") == 2)
    assert endpoint.control.counters().calls["job-done"][200] == results + 1


def test_a_sync_worker_finishes_what_was_cancelled_and_is_paid_for_it(join: Callable[..., Joined]) -> None:
    endpoint = join()
    endpoint.start("sync")
    cancelled = endpoint.run({"seconds": 2})
    endpoint.when(cancelled, "IN_PROGRESS")
    endpoint.call("POST", f"cancel/{cancelled}")
    following = endpoint.run({"n": 1})  # held up by the first
    assert endpoint.health()["workers"]["running"] == 1
    assert endpoint.health()["jobs"] == {"completed": 0, "failed": 0, "inProgress": 0, "inQueue": 1, "retried": 0}
    eventually(lambda: endpoint.control.counters().calls.get("job-done"))
    assert endpoint.status(cancelled)["status"] == "CANCELLED"
    assert endpoint.ended(following)["status"] == "COMPLETED"


@pytest.mark.load
def test_a_generator_feeds_the_stream(join: Callable[..., Joined]) -> None:
    endpoint = join()
    endpoint.start("stream")
    job_id = endpoint.run({"chunks": ["a", {"b": 1}, 3]})
    seen: list[Any] = []
    while (answer := endpoint.call("GET", f"stream/{job_id}?wait=1000").json())["status"] != "COMPLETED":
        seen += answer["stream"]
    seen += answer["stream"]
    assert [one["output"] for one in seen] == ["a", {"b": 1}, 3]
    assert endpoint.status(job_id)["output"] == ["a", {"b": 1}, 3]


@pytest.mark.load
def test_a_worker_with_room_takes_several_jobs(join: Callable[..., Joined]) -> None:
    endpoint = join()
    jobs = [endpoint.run({"seconds": 1}) for _ in range(4)]
    endpoint.start("many")
    eventually(lambda: len(endpoint.control.workers()[0].jobs) == 3)
    assert endpoint.health()["workers"]["running"] == 1
    endpoint.call("POST", f"cancel/{jobs[1]}")
    assert [endpoint.ended(job)["status"] for job in jobs] == ["COMPLETED", "CANCELLED", "COMPLETED", "COMPLETED"]
    assert endpoint.control.counters().redispatches == 0


@pytest.mark.parametrize(
    "whole_group",
    [pytest.param(True, id="container"), pytest.param(False, id="main process", marks=pytest.mark.load)],
)
def test_a_killed_worker_loses_its_job_to_another(join: Callable[..., Joined], whole_group: bool) -> None:
    endpoint = join()
    process = endpoint.start("async", "gpu-1")
    job_id = endpoint.run({"seconds": 1})
    first = endpoint.when(job_id, "IN_PROGRESS")
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()  # the SDK's ping process goes on
    endpoint.start("async", "gpu-2")
    again = eventually(lambda: found if (found := endpoint.status(job_id)).get("retries") else None)
    assert (first["workerId"], again["retries"]) == ("gpu-1", 1)
    done = endpoint.ended(job_id)
    assert (done["status"], done["workerId"], done["retries"]) == ("COMPLETED", "gpu-2", 1)
    assert done["delayTime"] + done["executionTime"] < 4000, "the delay is counted anew"
    counters = endpoint.control.counters()
    assert (counters.redispatches, counters.billable_starts, counters.accepted) == (1, 2, 1)
    assert [worker.id for worker in endpoint.control.workers()] == ["gpu-2"]


@pytest.mark.load
def test_a_frozen_worker_is_lost_and_told_to_stop_when_it_comes_back(join: Callable[..., Joined]) -> None:
    endpoint = join()
    frozen = endpoint.start("async", "gpu-1")
    job_id = endpoint.run({"seconds": 4})
    endpoint.when(job_id, "IN_PROGRESS")
    os.killpg(frozen.pid, signal.SIGSTOP)
    endpoint.start("async", "gpu-2")
    eventually(lambda: endpoint.status(job_id).get("workerId") == "gpu-2")
    os.killpg(frozen.pid, signal.SIGCONT)
    done = endpoint.ended(job_id)
    assert (done["status"], done["workerId"]) == ("COMPLETED", "gpu-2")
    eventually(lambda: {worker.id for worker in endpoint.control.workers()} == {"gpu-1", "gpu-2"})
    eventually(lambda: all(not worker.stopping for worker in endpoint.control.workers()))


@pytest.mark.load
def test_a_worker_that_asks_to_be_refreshed_ends_and_may_come_back(join: Callable[..., Joined]) -> None:
    endpoint = join()
    process = endpoint.start("refresh")
    first = endpoint.ended(endpoint.run({"n": 1}))
    assert process.wait(timeout=10) == 0
    assert endpoint.control.workers()[0].restarts == 1
    second = endpoint.run({"n": 2})
    endpoint.start("refresh")
    assert endpoint.ended(second)["output"]["pid"] != first["output"]["pid"]


def test_a_wrong_key_and_an_endpoint_of_simulated_workers_are_refused(join: Callable[..., Joined]) -> None:
    endpoint = join()
    url = f"{endpoint.simulator.base_url}/{endpoint.control.endpoint_id}/job-take/gpu-1"
    assert requests.get(url, headers={"Authorization": "wrong"}, timeout=5).status_code == 401
    endpoint.simulator.add_endpoint(EndpointConfig(endpoint_id="simulated"))
    url = f"{endpoint.simulator.base_url}/simulated/job-take/gpu-1"
    refused = requests.get(url, headers={"Authorization": "worker-key"}, timeout=5)
    assert (refused.status_code, "joined" in refused.json()["error"]) == (409, True)
    assert endpoint.control.workers() == []
