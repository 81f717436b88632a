"""Celery's retry options on jobs: carried out by the record, counted in events, and never a second payment."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import Category, JobFailed, OutputInvalid, SubmitOutcomeUnknown, SubmitRejected
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer, LoseAnswer
from tests.conftest import QUICK
from tests.support import retrying_app
from tests.support.fleet import Fleet, WorkerProcess, eventually


@pytest.fixture(scope="module")
def shared_worker(whole_fleet: Fleet) -> Iterator[WorkerProcess]:
    """The module's worker knows the tasks of `retrying_app`."""
    whole_fleet.stop_workers()
    whole_fleet.reset()
    yield whole_fleet.worker("--concurrency", "4", app="tests.support.retrying_app", **QUICK).wait_ready()
    whole_fleet.stop_workers()


@contextlib.contextmanager
def celery_events() -> Iterator[list[dict[str, Any]]]:
    """What Flower would see meanwhile."""
    seen: list[dict[str, Any]] = []
    stop, ready = threading.Event(), threading.Event()

    def listen() -> None:
        with ryla_tasks.app.connection() as connection:
            receiver = ryla_tasks.app.events.Receiver(connection, handlers={"*": seen.append})
            with receiver.consumer_context() as (consuming, _channel, _consumers):
                ready.set()
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        consuming.drain_events(timeout=0.2)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        assert ready.wait(10)
        yield seen
    finally:
        stop.set()
        thread.join(10)


def told(seen: list[dict[str, Any]], job_id: str, kind: str) -> list[dict[str, Any]]:
    return [event for event in seen if event["type"] == kind and event["uuid"] == job_id]


@pytest.mark.slow
def test_retry_after_is_obeyed_progress_is_kept_and_the_retry_is_counted(served: Fleet) -> None:
    served.endpoint("image").add_fault(Answer(op="run", status=429, retry_after=7))
    with celery_events() as seen:
        result = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a hut", width=64, height=64)
        states = set()

        def ready() -> bool:
            states.add(result.state)
            return result.ready()

        eventually(ready, timeout=30)
        eventually(lambda: told(seen, result.id, "task-succeeded"), what="Flower is told of the end")
    assert states <= {"PROGRESS", "SUCCESS"}
    value = result.get(timeout=1)
    assert value["attempts"] == 2
    assert value["timings"]["queued_s"] >= 7
    job = Job(result.id)
    assert job.record.retries == 1
    (waiting,) = [event for event in job.events() if event.type == "retry"]
    (accepted,) = [event for event in job.events() if event.data["phase"] == "waiting"]
    assert accepted.at - waiting.at >= 7
    assert waiting.data["phase"] == "queued"
    assert "again" in waiting.data["message"]
    assert [event["retries"] for event in told(seen, result.id, "task-received")] == [0, 1, 1]
    assert told(seen, result.id, "task-failed") == told(seen, result.id, "task-retried") == []
    assert served.endpoint("image").counters().calls["run"] == {429: 1, 200: 1}


def test_a_failed_remote_job_is_tried_again_where_the_task_says_so(served: Fleet) -> None:
    result = retrying_app.patient.delay(simulate={"fail": "ValueError: no"})
    with pytest.raises(JobFailed, match="GPU worker") as caught:
        result.get(timeout=30)
    assert (caught.value.info["code"], caught.value.category) == ("worker_error", Category.PERMANENT)
    record = Job(result.id).record
    assert (record.retries, record.attempt) == (2, 3)
    endpoint = served.endpoint("echo")
    sent = [endpoint.job(job.id).input for job in endpoint.jobs()]
    assert [one["ryla"]["attempt"] for one in sent if one] == [1, 2, 3]
    assert len({one["ryla"]["correlation_id"] for one in sent if one}) == 3
    started = [job.submitted_at for job in endpoint.jobs()]
    assert started[1] - started[0] >= 1
    assert started[2] - started[1] >= 2


def test_the_job_s_own_max_retries_comes_first(served: Fleet) -> None:
    result = retrying_app.patient.apply_async(kwargs={"simulate": {"fail": "no"}}, max_retries=0)
    with pytest.raises(JobFailed):
        result.get(timeout=30)
    assert Job(result.id).record.attempt == 1


def test_what_the_task_excludes_is_not_tried_again(served: Fleet) -> None:
    output = {"images": [{"filename": "a.png", "type": "base64", "data": "bm8gaW1hZ2U="}]}
    result = retrying_app.patient.delay(simulate={"output": output})
    with pytest.raises(OutputInvalid):
        result.get(timeout=30)
    assert Job(result.id).record.attempt == 1


def test_what_the_verdict_calls_transient_is_tried_again_by_default(served: Fleet) -> None:
    """Job-level: the task lists no `JobFailed`, and the job gets its new attempts all the same."""
    fail = "ComfyUI server (127.0.0.1:8188) not reachable after multiple retries."
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"fail": fail}}, max_retries=2)
    with pytest.raises(JobFailed, match="ComfyUI did not start") as caught:
        result.get(timeout=30)
    assert (caught.value.info["code"], caught.value.category) == ("comfyui_unreachable", Category.TRANSIENT)
    assert (Job(result.id).record.attempt, served.endpoint("echo").counters().accepted) == (3, 3)


def test_what_the_verdict_calls_recoverable_is_tried_once_more(served: Fleet) -> None:
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"fail": "CUDA out of memory"}})
    with pytest.raises(JobFailed) as caught:
        result.get(timeout=30)
    assert caught.value.info["code"] == "out_of_memory"
    assert Job(result.id).record.attempt == 2


def test_a_task_that_retries_nothing_does_not_follow_the_verdict_either(served: Fleet) -> None:
    result = retrying_app.never.delay(simulate={"fail": "CUDA out of memory"})
    with pytest.raises(JobFailed):
        result.get(timeout=30)
    assert Job(result.id).record.attempt == 1


@pytest.mark.parametrize("kind", ["by default", "where the task lists JobFailed"])
def test_an_input_that_brought_down_two_gpu_workers_is_not_tried_a_third_time(served: Fleet, kind: str) -> None:
    job_input = {"simulate": {"fail": "job timed out after 1 retries"}}
    if kind == "by default":
        result = ryla_tasks.run_endpoint.delay("echo", job_input)
    else:
        result = retrying_app.patient.delay(**job_input)
    with pytest.raises(JobFailed, match="break off") as caught:
        result.get(timeout=30)
    assert (caught.value.info["code"], caught.value.details["crashes"]) == ("poison_input", 2)
    assert caught.value.details["last"]["code"] == "worker_crashed"
    assert served.endpoint("echo").counters().accepted == 2


def test_what_runpod_has_tried_twice_by_itself_is_not_tried_a_third_time(served: Fleet) -> None:
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"crash": 9, "seconds": 1}})
    with pytest.raises(JobFailed) as caught:
        result.get(timeout=30)
    assert (caught.value.info["code"], caught.value.details["crashes"]) == ("poison_input", 2)
    counters = served.endpoint("echo").counters()
    assert (counters.accepted, counters.redispatches) == (1, 1)


def test_a_failed_remote_job_is_not_tried_again_by_default(served: Fleet) -> None:
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"fail": "no"}})
    with pytest.raises(JobFailed):
        result.get(timeout=30)
    assert served.endpoint("echo").counters().accepted == 1


def test_a_task_without_retries_ends_with_the_first_429(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Answer(op="run", status=429))
    result = retrying_app.never.delay(a=1)
    with pytest.raises(SubmitRejected, match="too busy") as caught:
        result.get(timeout=30)
    assert caught.value.info["details"]["http_status"] == 429


def test_retries_end_with_the_error_of_the_last_try(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Answer(op="run", status=429, retry_after=0.1, times=None))
    result = ryla_tasks.run_endpoint.delay("echo", {"a": 1}, max_retries=2)
    with pytest.raises(SubmitRejected):
        result.get(timeout=30)
    assert served.endpoint("echo").counters().calls["run"] == {429: 3}


@pytest.mark.parametrize("fault", [LoseAnswer(op="run"), Answer(op="run", status=502, after=True)])
def test_a_submit_whose_answer_is_lost_is_never_repeated(served: Fleet, fault: Any) -> None:
    """Not by the default rule, and not by a task that tries everything again."""
    served.endpoint("echo").add_fault(fault)
    result = retrying_app.patient.delay(simulate={"never_end": True}, on_unknown="fail")
    with pytest.raises(SubmitOutcomeUnknown) as caught:
        result.get(timeout=30)
    assert caught.value.info["code"] == "submit_unknown"
    assert Job(result.id).status is State.FAILED
    counters = served.endpoint("echo").counters()
    assert (counters.accepted, sum(counters.calls["run"].values())) == (1, 1)


def test_cancelling_between_two_tries_ends_the_job(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Answer(op="run", status=429, retry_after=25))
    result = ryla_tasks.run_endpoint.delay("echo", {"a": 1})
    job = Job(result.id)
    eventually(lambda: job.record.retries == 1, what="it waits for its second try")
    assert AsyncResult(job.id, app=ryla_tasks.app).state == "PROGRESS"
    assert job.cancel()
    with pytest.raises(ryla_tasks.errors.JobCancelled):
        result.get(timeout=10)
    assert served.endpoint("echo").counters().accepted == 0
