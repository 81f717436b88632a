"""Jobs that leave a target for another one, retries that wait for a target that is down, with real workers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

import ryla_tasks
from ryla_tasks.errors import InvalidJob
from ryla_tasks.jobs.breaker import DOWN
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer, EndpointConfig
from ryla_tasks.store.targets import TargetStore
from tests.conftest import fresh_settings
from tests.support.fleet import Fleet, WorkerProcess, eventually

#: Short enough that a target counts as stuck while a test looks on.
PATIENCE = {"RYLA_HEALTH_INTERVAL_S": "1", "RYLA_STUCK_AFTER_S": "2", "RYLA_SWEEP_INTERVAL_S": "1"}


@pytest.fixture
def pair(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """An endpoint "echo" with a second target, `spare`, for enqueuers and workers alike."""
    fleet.simulator.add_endpoint(
        EndpointConfig(endpoint_id="spare", program="echo", workers_min=5, workers_max=5, cold_start_s=0, run_s=0.2)
    )
    set_up(monkeypatch)
    yield fleet
    monkeypatch.undo()
    fresh_settings()


def set_up(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    targets = [{"endpoint_id": "echo", "models": ["base.safetensors", "loras/*"]}, {"endpoint_id": "spare"}]
    endpoint = {
        "targets": targets, "poll_min_s": 0.25, "poll_max_s": 0.5, "max_retries": 1, "retry_backoff_s": 0.2, **changes,
    }  # fmt: skip
    for name, value in {**PATIENCE, "RYLA_ENDPOINT_ECHO": json.dumps(endpoint)}.items():
        monkeypatch.setenv(name, value)
    fresh_settings()


def start(fleet: Fleet) -> WorkerProcess:
    """A worker with the settings of this process."""
    return fleet.worker("--concurrency", "4", RYLA_ENDPOINT_ECHO=os.environ["RYLA_ENDPOINT_ECHO"]).wait_ready()


def echo(**options: Any) -> ryla_tasks.Job:
    return ryla_tasks.Job(ryla_tasks.run_endpoint.delay("echo", {"x": 1}, **options).id)


def spare(fleet: Fleet) -> Any:
    return fleet.simulator.endpoint("spare")


def test_a_queue_that_no_worker_can_serve_moves_to_the_next_target(pair: Fleet) -> None:
    """Each job is cancelled where it waits before it is submitted elsewhere; the ones that follow go there at once."""
    pair.endpoint("echo").update(workers_min=0, workers_max=0)
    worker = start(pair)
    jobs = [echo() for _ in range(12)]
    for job in jobs:
        eventually(lambda job=job: job.status.ended, timeout=40, what="the end")
    for job in jobs:
        result = job.result()
        assert (result["target"], result["attempts"]) == ("runpod:spare", 2)
        assert result["fallbacks"] == [
            {"kind": "endpoint", "from": "runpod:echo", "to": "runpod:spare", "why": "no_worker"}
        ]
        types = [event.type for event in job.events()]
        assert types.index("stuck") < types.index("failover")
        assert job.record.retries == 0, "that is no retry"
    first, second = pair.endpoint("echo").counters(), spare(pair).counters()
    assert (first.accepted, first.billable_starts, first.ended["CANCELLED"]) == (12, 0, 12)
    assert (second.accepted, second.billable_starts, second.duplicates) == (12, 12, 0)
    assert "breaker.open target=runpod:echo why=wait" in worker.text
    late = echo()
    assert late.wait(timeout=20)["attempts"] == 1
    assert pair.endpoint("echo").counters().accepted == 12
    assert int(pair.client.hget("ryla:counters", "failovers")) == 12


def test_jobs_wait_where_the_endpoint_says_so(pair: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, on_stuck="wait")
    pair.endpoint("echo").update(workers_min=0, workers_max=0)
    start(pair)
    job = echo()
    eventually(lambda: any(event.type == "stuck" for event in job.events()), timeout=30)
    pair.endpoint("echo").update(workers_max=1)
    assert job.wait(timeout=30)["target"] == "runpod:echo"
    assert spare(pair).counters().accepted == 0


def test_a_target_that_does_not_exist_any_more_is_left_at_once(pair: Fleet) -> None:
    pair.endpoint("echo").remove()
    start(pair)
    result = echo().wait(timeout=20)
    assert (result["target"], result["fallbacks"][0]["why"]) == ("runpod:spare", "endpoint_not_found")


def test_a_target_that_goes_on_refusing_is_left_when_the_retries_are_used_up(pair: Fleet) -> None:
    pair.endpoint("echo").add_fault(Answer(op="run", status=429, times=None, retry_after=0.1))
    start(pair)
    result = echo().wait(timeout=30)
    assert (result["target"], result["attempts"]) == ("runpod:spare", 3)
    assert pair.endpoint("echo").counters().calls["run"] == {429: 2}
    calls = TargetStore(pair.client, prefix="ryla").calls
    wanted = {("runpod:echo", "run", "429"): 2, ("runpod:spare", "run", "200"): 1}
    eventually(lambda: wanted.items() <= calls().items(), what="the fleet's calls")


def test_a_job_goes_only_where_its_models_are(pair: Fleet) -> None:
    start(pair)
    wanted = workflow("base.safetensors", "loras/ada.safetensors"), workflow("other.safetensors")
    plans = [ryla_tasks.app.tasks["ryla.generate_image"].plan(workflow=one) for one in wanted]
    assert [plan.needs for plan in plans] == [("base.safetensors", "loras/ada.safetensors"), ("other.safetensors",)]

    @ryla_tasks.app.task(base=ryla_tasks.ServerlessTask, endpoint="echo", name="tests.needs", shared=False)
    def needs(*files: str) -> ryla_tasks.JobPlan:
        return ryla_tasks.JobPlan({"files": list(files)}, needs=files)

    try:
        both = needs.new_spec(needs.plan("base.safetensors"), ryla_tasks.tasks.plan.split_options({})[0])[0]
        one = needs.new_spec(needs.plan("other.safetensors"), ryla_tasks.tasks.plan.split_options({})[0])[0]
    finally:
        del ryla_tasks.app.tasks["tests.needs"]
    assert (both.only, one.only) == ((), ("runpod:spare",))


def test_what_no_target_has_is_refused_where_it_is_enqueued(pair: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [{"endpoint_id": "img", "models": ["a.safetensors"]}]
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", json.dumps({"targets": targets}))
    fresh_settings()
    with pytest.raises(InvalidJob, match=r"runpod:img lacks other\.safetensors") as caught:
        ryla_tasks.generate_image.delay(workflow=workflow("other.safetensors"))
    assert caught.value.field == "workflow"


def workflow(*files: str) -> dict[str, Any]:
    loaders = {
        str(n): {"class_type": "UNETLoader", "inputs": {"unet_name": name}} for n, name in enumerate(files, start=1)
    }
    return {**loaders, "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}}


def test_a_retry_asks_for_health_and_waits_while_the_endpoint_is_down(fleet: Fleet, monkeypatch: Any) -> None:
    """The first submit is refused; /health fails: no further submit until it answers again, and none of it counts."""
    monkeypatch.setenv("RYLA_ENDPOINT_ECHO", json.dumps({"endpoint_id": "echo", "retry_backoff_s": 0.2}))
    monkeypatch.setenv("RYLA_HEALTH_INTERVAL_S", "1")
    fresh_settings()
    endpoint = fleet.endpoint("echo")
    endpoint.add_fault(Answer(op="run", status=429, times=1, retry_after=0))
    endpoint.add_fault(Answer(op="health", status=503, times=None))
    fleet.worker("--concurrency", "4", RYLA_SWEEP_INTERVAL_S="1").wait_ready()
    job = echo()
    eventually(lambda: job.progress.message == DOWN, what="told")
    assert (job.status, job.record.retries, job.record.attempt) == (State.QUEUED, 1, 1)
    assert endpoint.counters().calls["run"] == {429: 1}
    assert endpoint.counters().calls["health"][503] >= 1
    endpoint.clear_faults()
    assert job.wait(timeout=30)["attempts"] == 2
    assert int(fleet.client.hget("ryla:counters", "retries_held")) >= 1
    monkeypatch.undo()
    fresh_settings()
