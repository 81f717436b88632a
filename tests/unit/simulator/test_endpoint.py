"""The pure endpoint: queue, workers and scaler, with the time handed in."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from ryla_tasks.simulator.config import EndpointConfig, ScalerType, WorkerStart
from ryla_tasks.simulator.endpoint import Endpoint
from ryla_tasks.simulator.jobs import JobStatus, SimJob
from ryla_tasks.simulator.programs import PROGRAMS


def make(**settings: Any) -> Endpoint:
    config = EndpointConfig(endpoint_id="ep", **{"program": "echo", "run_s": 10, "cold_start_s": 20, **settings})
    endpoint = Endpoint(config, PROGRAMS[config.program], Random(0))
    endpoint.open(0.0)
    return endpoint


def submit(endpoint: Endpoint, now: float = 0.0, job_id: str = "job", **options: Any) -> SimJob:
    simulate = options.pop("simulate", {})
    endpoint.advance(now)
    fields: dict[str, Any] = {"ttl_s": 86_400, "execution_timeout_s": 600, **options}
    job_input = fields.pop("input", {"n": job_id, "simulate": simulate})
    job = SimJob(id=job_id, input=job_input, submitted_at=now, **fields)
    endpoint.submit(job, now)
    return job


def at(endpoint: Endpoint, now: float, job: SimJob) -> dict[str, Any]:
    endpoint.advance(now)
    return job.status_fields(now)


def test_a_job_waits_for_a_cold_start_then_runs_then_ends() -> None:
    endpoint = make(steps=5)
    job = submit(endpoint)
    assert at(endpoint, 19.9, job) == {"id": "job", "status": "IN_QUEUE"}
    assert endpoint.health()["workers"]["initializing"] == 1
    assert endpoint.health()["workers"]["ready"] == 0
    running = at(endpoint, 24.1, job)
    assert running.pop("workerId")
    progress = {"percent": 40, "step": 2, "steps": 5, "node": "echo"}
    assert running == {"id": "job", "status": "IN_PROGRESS", "delayTime": 20_000, "output": progress}
    assert endpoint.health() == {
        "jobs": {"completed": 0, "failed": 0, "inProgress": 1, "inQueue": 0, "retried": 0},
        "workers": {"idle": 0, "initializing": 0, "ready": 0, "running": 1, "throttled": 0, "unhealthy": 0},
    }
    done = at(endpoint, 30.0, job)
    assert (done["status"], done["delayTime"], done["executionTime"]) == ("COMPLETED", 20_000, 10_000)
    workers = endpoint.health()["workers"]
    assert (workers["idle"], workers["ready"], workers["running"]) == (1, 1, 0)


def test_events_happen_at_their_own_time_however_late_one_asks() -> None:
    endpoint = make(workers_max=1)
    first, second = submit(endpoint, job_id="a"), submit(endpoint, job_id="b")
    endpoint.advance(1000.0)
    assert (first.started_at, first.ended_at) == (20.0, 30.0)
    assert (second.started_at, second.ended_at) == (30.0, 40.0)
    assert first.worker_id == second.worker_id
    # 20 s of work, then 5 s idle: the cold start is not billed by default.
    assert endpoint.fleet.billed_seconds(1000.0) == 25


def test_a_result_is_gone_after_its_retention() -> None:
    endpoint = make(retention_s=1800)
    job = submit(endpoint)
    endpoint.advance(30 + 1799)
    assert endpoint.jobs[job.id].status is JobStatus.COMPLETED
    endpoint.advance(30 + 1800)
    assert job.id not in endpoint.jobs


def test_queue_delay_adds_one_worker_then_one_for_each_job_that_waited() -> None:
    endpoint = make(workers_max=10, queue_delay_s=4)
    for number in range(5):
        submit(endpoint, now=float(number), job_id=str(number))
    assert endpoint.fleet.alive == 1
    endpoint.advance(6.5)
    assert endpoint.fleet.alive == 3  # those of 0, 1 and 2 have waited four seconds
    endpoint.advance(8.0)
    assert endpoint.fleet.alive == 5


def test_request_count_asks_for_its_share_at_once() -> None:
    endpoint = make(workers_max=10, scaler=ScalerType.REQUEST_COUNT, request_count=4)
    for number in range(9):
        submit(endpoint, job_id=str(number))
    assert endpoint.fleet.alive == 3


def test_workers_never_exceed_the_maximum_and_scale_to_zero() -> None:
    endpoint = make(workers_max=2, idle_timeout_s=5)
    for number in range(6):
        submit(endpoint, job_id=str(number))
    endpoint.advance(25.0)
    assert endpoint.health()["workers"]["running"] == 2
    endpoint.advance(500.0)
    assert endpoint.health()["jobs"]["completed"] == 6
    assert set(endpoint.health()["workers"].values()) == {0}


def test_active_workers_are_there_and_stay() -> None:
    endpoint = make(workers_min=2)
    endpoint.advance(10_000.0)
    assert endpoint.health()["workers"]["idle"] == 2
    job = submit(endpoint, now=10_000.0)
    assert (job.status, job.delay_ms) == (JobStatus.IN_PROGRESS, 0)


def test_a_scaled_down_worker_kept_by_flashboot_comes_back_faster() -> None:
    endpoint = make(cold_start_s=60, flashboot_s=2, idle_timeout_s=5)
    submit(endpoint, job_id="cold")
    endpoint.advance(200.0)
    assert (endpoint.health()["workers"]["idle"], endpoint.health()["workers"]["ready"]) == (1, 1)
    assert submit(endpoint, now=200.0, job_id="warm").status is JobStatus.IN_QUEUE
    endpoint.advance(202.0)
    assert endpoint.jobs["warm"].delay_ms == 2000


def test_low_priority_does_not_bring_workers() -> None:
    endpoint = make()
    job = submit(endpoint, low_priority=True)
    endpoint.advance(1000.0)
    assert (job.status, endpoint.fleet.alive) == (JobStatus.IN_QUEUE, 0)


def test_no_workers_allowed_leaves_a_job_in_the_queue() -> None:
    endpoint = make(workers_max=0)
    job = submit(endpoint)
    endpoint.advance(1000.0)
    assert job.status is JobStatus.IN_QUEUE
    assert set(endpoint.health()["workers"].values()) == {0}


@pytest.mark.parametrize(
    ("start", "count"), [(WorkerStart.THROTTLED, "throttled"), (WorkerStart.UNHEALTHY, "unhealthy")]
)
def test_workers_that_cannot_start_show_in_health_until_they_can(start: WorkerStart, count: str) -> None:
    endpoint = make(worker_start=start)
    job = submit(endpoint)
    endpoint.advance(100.0)
    assert (job.status, endpoint.health()["workers"][count]) == (JobStatus.IN_QUEUE, 1)
    normal = endpoint.config.model_copy(update={"worker_start": WorkerStart.NORMAL})
    endpoint.reconfigure(normal, endpoint.program, 100.0)
    assert at(endpoint, 121.0, job)["status"] == "IN_PROGRESS"
    assert endpoint.health()["workers"][count] == 0


def test_a_lower_maximum_lets_running_jobs_end() -> None:
    endpoint = make(workers_min=2)
    endpoint.advance(20.0)
    job = submit(endpoint, now=20.0)
    closed = endpoint.config.model_copy(update={"workers_min": 0, "workers_max": 0})
    endpoint.reconfigure(closed, endpoint.program, 21.0)
    assert endpoint.fleet.alive == 1
    assert at(endpoint, 30.0, job)["status"] == "COMPLETED"
    assert endpoint.fleet.alive == 0


def test_a_lower_minimum_lets_active_workers_go() -> None:
    endpoint = make(workers_min=3)
    endpoint.advance(100.0)
    endpoint.reconfigure(endpoint.config.model_copy(update={"workers_min": 1}), endpoint.program, 100.0)
    endpoint.advance(106.0)
    assert endpoint.health()["workers"]["idle"] == 1


def test_execution_timeout_counts_only_while_it_runs() -> None:
    endpoint = make()
    job = submit(endpoint, execution_timeout_s=5, simulate={"never_end": True})
    assert at(endpoint, 24.9, job)["status"] == "IN_PROGRESS"
    ended = at(endpoint, 25.0, job)
    assert (ended["status"], ended["executionTime"]) == ("TIMED_OUT", 5000)
    assert endpoint.health()["workers"]["idle"] == 1


@pytest.mark.parametrize("ttl", [15.0, 25.0], ids=["queued", "running"])
def test_at_the_end_of_its_ttl_a_job_is_deleted(ttl: float) -> None:
    endpoint = make()
    job = submit(endpoint, ttl_s=ttl)
    endpoint.advance(ttl - 0.1)
    assert job.id in endpoint.jobs
    endpoint.advance(ttl)
    assert job.id not in endpoint.jobs
    assert endpoint.health()["jobs"]["inQueue"] == endpoint.health()["jobs"]["inProgress"] == 0


def test_a_queued_job_can_be_kept_as_timed_out_at_the_end_of_its_ttl() -> None:
    endpoint = make(ttl_keeps_queued=True)
    job = submit(endpoint, ttl_s=15)
    assert at(endpoint, 15.0, job) == {"id": "job", "status": "TIMED_OUT"}
    assert job.id in endpoint.jobs


def test_a_dead_worker_gives_the_job_to_another_with_the_delay_counted_anew() -> None:
    endpoint = make(idle_timeout_s=5)
    job = submit(endpoint, simulate={"crash": True, "crash_after_s": 3})
    first = at(endpoint, 21.0, job)["workerId"]
    assert at(endpoint, 24.0, job) == {"id": "job", "status": "IN_QUEUE", "retries": 1}
    assert endpoint.health()["jobs"]["retried"] == 1
    again = at(endpoint, 44.0, job)
    assert again["workerId"] != first
    assert (again["status"], again["retries"], again["delayTime"]) == ("IN_PROGRESS", 1, 20_000)
    assert at(endpoint, 53.0, job)["status"] == "COMPLETED"
    assert endpoint.counters.starts == 2


def test_a_job_whose_workers_keep_dying_fails() -> None:
    endpoint = make()
    job = submit(endpoint, simulate={"crash": 5})
    endpoint.advance(1000.0)
    assert (job.status, job.error, job.retries) == (JobStatus.FAILED, "job timed out after 1 retries", 1)


def test_an_empty_input_fails_as_it_does_live() -> None:
    endpoint = make()
    job = submit(endpoint, input={})
    endpoint.advance(1000.0)
    assert (job.status, job.error, job.retries) == (JobStatus.FAILED, "job timed out after 1 retries", 1)


def test_a_failure_carries_its_text_and_retry_runs_it_again_under_its_id() -> None:
    endpoint = make()
    job = submit(endpoint, simulate={"fail": "out of memory", "fail_runs": 1})
    failed = at(endpoint, 30.0, job)
    assert (failed["status"], failed["error"]) == ("FAILED", "out of memory")
    endpoint.retry(job, 31.0)
    assert "error" not in job.status_fields(31.0)
    endpoint.advance(41.0)
    assert endpoint.jobs["job"].status is JobStatus.COMPLETED


def test_a_retried_job_outlives_the_retention_of_its_first_end() -> None:
    endpoint = make(retention_s=60)
    job = submit(endpoint, simulate={"fail": "once", "fail_runs": 1})
    endpoint.advance(80.0)
    endpoint.retry(job, 80.0)
    endpoint.advance(120.0)
    assert endpoint.jobs["job"].status is JobStatus.COMPLETED


def test_cancel_in_the_queue_leaves_no_times_and_on_a_worker_frees_it() -> None:
    endpoint = make(workers_max=1)
    running, queued = submit(endpoint, job_id="a"), submit(endpoint, job_id="b")
    endpoint.advance(22.0)
    endpoint.cancel(queued, 22.0)
    assert queued.status_fields(22.0) == {"id": "b", "status": "CANCELLED"}
    endpoint.cancel(running, 23.0)
    fields = running.status_fields(23.0)
    assert (fields["status"], fields["executionTime"]) == ("CANCELLED", 3000)
    assert endpoint.health()["workers"]["idle"] == 1
    endpoint.advance(40.0)
    assert running.status is JobStatus.CANCELLED


def test_purge_removes_only_what_is_queued() -> None:
    endpoint = make(workers_max=1)
    jobs = [submit(endpoint, job_id=str(number)) for number in range(3)]
    endpoint.advance(21.0)
    assert endpoint.purge(21.0) == 2
    assert [job.status for job in jobs] == [JobStatus.IN_PROGRESS, JobStatus.CANCELLED, JobStatus.CANCELLED]


def test_a_bad_directive_fails_the_job_and_names_the_field() -> None:
    endpoint = make()
    job = submit(endpoint, simulate={"seconds": -1})
    endpoint.advance(20.0)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.startswith("simulate.seconds: ")


def test_duplicates_are_counted_by_the_submitters_mark() -> None:
    endpoint = make()
    for number in range(3):
        submit(endpoint, job_id=str(number), input={"ryla": {"correlation_id": "one"}})
    submit(endpoint, job_id="other", input={"ryla": {"correlation_id": "two"}})
    counters = endpoint.counters.snapshot(0, 0)
    assert (counters.accepted, counters.duplicates) == (4, 2)
    assert counters.accepted_by_correlation == {"one": 3, "two": 1}


def test_ten_thousand_jobs_need_one_event_each_and_no_more_when_they_have_ended() -> None:
    endpoint = make(workers_min=10_000, workers_max=10_000, cold_start_s=0)
    endpoint.advance(0.0)
    for number in range(10_000):
        submit(endpoint, job_id=str(number))
    endpoint.advance(5.0)
    assert endpoint.health()["jobs"]["inProgress"] == 10_000
    endpoint.advance(10.0)
    assert endpoint.health()["jobs"]["completed"] == 10_000
    endpoint.advance(5000.0)
    assert not endpoint.jobs
    assert len(endpoint.schedule) == 0
