"""RunPod's own published client, unchanged, against the simulator."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests
import runpod

from ryla_tasks.simulator import DEFAULT_KEY, EndpointConfig, RunningSimulator, Simulator, SimulatorConfig


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    endpoint = EndpointConfig(
        endpoint_id="ep", program="echo", workers_min=1, workers_max=1, cold_start_s=0, run_s=2, rate_limits=False
    )
    with Simulator.running(SimulatorConfig(time_scale=20, endpoints=(endpoint,))) as running:
        yield running


@pytest.fixture
def endpoint(simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> runpod.Endpoint:
    monkeypatch.setattr(runpod, "endpoint_url_base", simulator.base_url)
    monkeypatch.setattr(runpod, "api_key", DEFAULT_KEY)
    simulator.reset()
    return runpod.Endpoint("ep")


def test_runs_and_polls_to_the_end(endpoint: runpod.Endpoint) -> None:
    job = endpoint.run({"input": {"text": "hello"}})
    assert job.status() in ("IN_QUEUE", "IN_PROGRESS")
    assert job.output(timeout=20) == {"text": "hello"}
    assert job.status() == "COMPLETED"


def test_run_sync(endpoint: runpod.Endpoint) -> None:
    assert endpoint.run_sync({"input": {"text": "now"}}, timeout=20) == {"text": "now"}


def test_stream(endpoint: runpod.Endpoint) -> None:
    job = endpoint.run({"input": {"simulate": {"chunks": [1, 2, 3], "seconds": 10}}})
    assert list(job.stream()) == [1, 2, 3]


def test_cancel_health_and_purge(endpoint: runpod.Endpoint) -> None:
    running = endpoint.run({"input": {"simulate": {"never_end": True}}})
    endpoint.run({"input": {"a": 1}})
    until = time.monotonic() + 10
    while endpoint.health()["jobs"]["inProgress"] != 1:
        assert time.monotonic() < until
    assert endpoint.health()["jobs"]["inQueue"] == 1
    assert endpoint.purge_queue() == {"removed": 1, "status": "completed"}
    assert running.cancel() == {"id": running.job_id, "status": "CANCELLED"}
    assert running.status() == "CANCELLED"
    assert endpoint.health()["workers"]["idle"] == 1


def test_a_wrong_key_and_a_wrong_endpoint(endpoint: runpod.Endpoint) -> None:
    with pytest.raises(RuntimeError):
        runpod.Endpoint("ep", api_key="wrong").health()
    with pytest.raises(requests.HTTPError, match="404"):
        runpod.Endpoint("other").health()
