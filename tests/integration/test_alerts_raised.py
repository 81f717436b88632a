"""The alerts that workers raise: failure rates, used-up retries, failing health, no workers, jobs not delivered."""

from __future__ import annotations

from typing import Any

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.simulator import Answer
from ryla_tasks.store.events import Event
from ryla_tasks.store.targets import TargetStore
from tests.conftest import QUICK
from tests.support.fleet import Fleet, eventually

SOON = {
    **QUICK,
    "RYLA_HEALTH_INTERVAL_S": "1",
    "RYLA_STUCK_AFTER_S": "1",
}


def told(fleet: Fleet, kind: str) -> list[Event]:
    return [one for one in TargetStore(fleet.client, prefix="ryla").alerts() if one.type == kind]


def the_one(fleet: Fleet, kind: str) -> dict[str, Any]:
    (alert,) = eventually(lambda: told(fleet, kind), timeout=30, what=kind)
    return alert.data


def test_too_many_failures_are_told_once(fleet: Fleet) -> None:
    fleet.worker().wait_ready()
    fail = {"simulate": {"fail": "no", "seconds": 0.1}}
    jobs = [ryla_tasks.run_endpoint.delay("echo", {"n": n, **(fail if n < 5 else {})}) for n in range(30)]
    for job in jobs:
        job.get(timeout=30, propagate=False)
    # What a process knows of a target's past is up to 30 s old; a process that is new looks at once.
    fleet.stop_workers()
    fleet.worker().wait_ready()
    ryla_tasks.run_endpoint.delay("echo", {"n": 1}).get(timeout=30)
    assert the_one(fleet, "failure_rate")["target"] == "runpod:echo"
    assert told(fleet, "failure_rate")[0].data["percent"] in (16, 17)


def test_used_up_retries_are_told(fleet: Fleet) -> None:
    fleet.worker(**QUICK).wait_ready()
    fleet.endpoint("echo").add_fault(Answer(op="run", status=429, times=None))
    job = ryla_tasks.run_endpoint.delay("echo", {"n": 1}, max_retries=1)
    assert job.get(timeout=60, propagate=False)
    record = Job.get(job.id).record
    alert = the_one(fleet, "retries_exhausted")
    assert (alert["job_id"], alert["endpoint"], alert["retries"]) == (job.id, "echo", record.retries)


def test_no_workers_and_failing_health_are_told(fleet: Fleet) -> None:
    fleet.reset(workers_min=0, workers_max=0)
    fleet.worker(**SOON).wait_ready()
    ryla_tasks.run_endpoint.delay("echo", {"n": 1})
    assert the_one(fleet, "no_workers")["target"] == "runpod:echo"
    fleet.endpoint("echo").add_fault(Answer(op="health", status=500, times=None))
    assert "ServerError" in the_one(fleet, "health_failing")["error"]


def test_a_maximum_that_is_not_0_is_not_told(fleet: Fleet) -> None:
    fleet.reset(workers_min=0, workers_max=3, worker_start="throttled")
    fleet.worker(**SOON).wait_ready()
    ryla_tasks.run_endpoint.delay("echo", {"n": 1})
    assert the_one(fleet, "stuck")["cause"] in ("no_worker", "throttled")
    assert told(fleet, "no_workers") == []
