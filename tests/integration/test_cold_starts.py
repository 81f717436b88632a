"""Cold starts and stuck queues, with real workers: phases, how often /health is asked, verdicts, history."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import ryla_tasks
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import EndpointStats
from ryla_tasks.store.targets import TargetStore
from tests.conftest import QUICK
from tests.support.fleet import Fleet, eventually

ORDER = ["queued", "waiting", "starting", "running", "collecting", "completed"]


def image(**options: Any) -> ryla_tasks.Job:
    return ryla_tasks.Job(ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="x", **options).id)


def asked(fleet: Fleet, name: str = "image") -> int:
    return sum(fleet.endpoint(name).counters().calls.get("health", {}).values())


def targets(fleet: Fleet) -> TargetStore:
    return TargetStore(fleet.client, prefix="ryla")


def test_two_workers_tell_waiting_from_starting_and_running_with_one_call_of_health(fleet: Fleet) -> None:
    fleet.reset(workers_min=0, workers_max=1, cold_start_s=6.0, run_s=2.0)
    workers = [fleet.worker("--concurrency", "4", **QUICK) for _ in range(2)]
    for worker in workers:
        worker.wait_ready()
    jobs = [image() for _ in range(3)]
    for job in jobs:
        eventually(lambda job=job: job.status.ended, timeout=40, what="the end")
    assert asked(fleet) == 1
    phases = [event.data["phase"] for event in jobs[0].events()]
    assert [phase for phase, before in pairwise([*phases, ""]) if phase != before] == ORDER
    for job in jobs:
        record = job.record
        assert (record.state, record.attempt, record.retries) == (State.COMPLETED, 1, 0), "a cold start is no failure"
    stats = EndpointStats.of(targets(fleet).look("runpod:img", samples=True).samples or ())
    assert (stats.jobs, stats.cold_jobs, stats.cold.count, stats.failure_rate) == (3, 3, 1, 0.0)
    assert 5.9 <= stats.cold.p50 <= 6.5
    assert stats.run.p50 == 2.0


def test_health_is_not_asked_while_nobody_waits(fleet: Fleet) -> None:
    fleet.worker("--concurrency", "4", **QUICK).wait_ready()
    jobs = [image() for _ in range(5)]
    for job in jobs:
        assert job.wait(timeout=20)["job_id"] == job.id
    assert asked(fleet) == 0
    stats = EndpointStats.of(targets(fleet).look("runpod:img", samples=True).samples or ())
    assert (stats.jobs, stats.cold.count) == (5, 0)


def test_a_queue_that_no_worker_can_serve_is_stuck_is_told_once_and_goes_on_afterwards(fleet: Fleet) -> None:
    causes = {"image": "throttled", "echo": "unhealthy", "special": "no_worker"}
    fleet.reset(workers_min=0, workers_max=1)
    fleet.endpoint("image").update(worker_start="throttled")
    fleet.endpoint("echo").update(worker_start="unhealthy")
    fleet.endpoint("special").update(workers_max=0)
    quick = {"RYLA_HEALTH_INTERVAL_S": "1", "RYLA_STUCK_AFTER_S": "2", "RYLA_STUCK_UNHEALTHY_AFTER_S": "2"}
    worker = fleet.worker("--concurrency", "4", **QUICK, **quick).wait_ready()
    jobs = {name: ryla_tasks.Job(ryla_tasks.run_endpoint.delay(name, {"x": 1}).id) for name in causes}

    def stuck(job: ryla_tasks.Job) -> list[dict[str, Any]]:
        return [event.data for event in job.events() if event.type == "stuck"]

    for job in jobs.values():
        (event,) = eventually(lambda job=job: stuck(job), what="a stuck event")
        assert event["phase"] in ("waiting", "starting")
        assert "keeps its place in line" in event["message"]
    alerts = {alert.data["target"]: alert.data for alert in eventually(lambda: len_of(targets(fleet), 3))}
    ids = {"image": "runpod:img", "echo": "runpod:echo", "special": "runpod:spc"}
    assert {name: alerts[ids[name]]["cause"] for name in causes} == causes
    for target in ids.values():
        assert targets(fleet).look(target).watch.down
    fleet.endpoint("image").update(worker_start="normal")
    fleet.endpoint("echo").update(worker_start="normal")
    fleet.endpoint("special").update(workers_max=1)
    for job in jobs.values():
        eventually(lambda job=job: job.status.ended, timeout=30, what="the end")
        assert (job.record.attempt, job.record.retries) == (1, 0)
        assert len(stuck(job)) == 1
    assert len_of(targets(fleet), 3)
    assert [alert.data["target"] for alert in targets(fleet).alerts() if alert.type == "no_workers"] == ["runpod:spc"]
    assert worker.text.count("endpoint.stuck") == 3
    assert json.loads(fleet.client.get("ryla:health:runpod:img"))["at"] > 0


def len_of(store: TargetStore, wanted: int) -> Any:
    found = [alert for alert in store.alerts() if alert.type == "stuck"]
    return found if len(found) == wanted else None
