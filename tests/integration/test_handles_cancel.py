"""Cancelling, by handle and by Celery's revoke, in each phase: the remote job is cancelled, and the end is told."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chord
from celery.exceptions import ChordError, TaskRevokedError

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import JobCancelled
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer, Delay, LoseAnswer
from tests.support.fleet import Fleet, eventually

ENDLESS = {"simulate": {"never_end": True}}


def echo(job_input: dict[str, Any] | None = None, **options: Any) -> Any:
    return ryla_tasks.run_endpoint.s("echo", job_input or ENDLESS, **options)


def running(**options: Any) -> Job:
    job = Job(echo().apply_async(**options).id)
    eventually(lambda: job.status is State.RUNNING, what="it runs")
    return job


def ended(job: Job, state: State = State.CANCELLED) -> None:
    eventually(lambda: job.status is state, what=f"{job.id} is {state}")
    eventually(lambda: job.record.delivered, what="Celery was told")


def revoke(job_id: str, **options: Any) -> None:
    ryla_tasks.app.control.revoke(job_id, **options)


# --- by handle ---


def test_a_queued_job_ends_at_once_and_never_reaches_the_endpoint(served: Fleet) -> None:
    result = echo().apply_async(countdown=25)
    job = Job(result.id)
    assert job.cancel()
    assert job.status is State.CANCELLED
    with pytest.raises(JobCancelled) as caught:
        result.get(timeout=10)
    assert (caught.value.info["code"], caught.value.job_id) == ("cancelled", job.id)
    assert served.endpoint("echo").counters().accepted == 0


def test_a_job_in_the_cloud_s_queue_is_cancelled_there(served: Fleet) -> None:
    served.endpoint("echo").update(workers_min=0, workers_max=0)
    job = Job(echo().delay().id)
    eventually(lambda: job.status is State.WAITING, what="it waits")
    assert job.cancel()
    ended(job)
    assert served.endpoint("echo").counters().ended == {"CANCELLED": 1}


def test_a_running_job_is_cancelled_and_asking_twice_is_harmless(served: Fleet) -> None:
    job = running()
    assert job.cancel()
    assert job.progress.message == "Cancelling" or job.status is State.CANCELLED
    job.cancel()
    ended(job)
    assert job.cancel() is False
    with pytest.raises(JobCancelled):
        job.result()
    assert served.endpoint("echo").counters().ended == {"CANCELLED": 1}


def test_a_job_whose_submit_is_under_way_is_cancelled_when_its_remote_id_is_known(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Delay(op="run", seconds=1.0))
    job = Job(echo().delay().id)
    eventually(lambda: job.status is State.SUBMITTING, what="it is being sent")
    assert job.cancel()
    ended(job)
    assert served.endpoint("echo").counters().ended == {"CANCELLED": 1}


def test_what_completed_before_the_cancel_arrived_is_kept(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Delay(op="cancel", seconds=1.0))
    served.endpoint("echo").add_fault(Answer(op="cancel", status=500))
    result = echo({"simulate": {"seconds": 0.5}, "n": 7}).delay()
    job = Job(result.id)
    eventually(lambda: job.record.remote_id, what="the cloud has it")
    assert job.cancel()
    assert result.get(timeout=30)["data"]["n"] == 7
    assert job.status is State.COMPLETED


def test_a_cancel_whose_answer_is_lost_is_settled_by_the_next_poll(served: Fleet) -> None:
    job = running()
    served.endpoint("echo").add_fault(LoseAnswer(op="cancel"))
    job.cancel()
    ended(job)


def test_a_cancel_that_the_cloud_refuses_for_a_while_is_asked_again(served: Fleet) -> None:
    job = running()
    served.endpoint("echo").add_fault(Answer(op="cancel", status=503, times=2))
    job.cancel()
    ended(job)
    assert served.endpoint("echo").counters().ended == {"CANCELLED": 1}


def test_a_finished_job_cannot_be_cancelled(served: Fleet) -> None:
    result = echo({"n": 1}).delay()
    result.get(timeout=30)
    assert Job(result.id).cancel() is False
    assert Job(result.id).status is State.COMPLETED


# --- by Celery's revoke ---


def test_a_revoked_running_job_is_cancelled_remotely_and_is_revoked_in_celery(served: Fleet) -> None:
    job = running()
    revoke(job.id)
    ended(job)
    result = echo_result(job)
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=5)
    with pytest.raises(JobCancelled) as caught:
        job.result()
    assert caught.value.info["code"] == "revoked"
    assert served.endpoint("echo").counters().ended == {"CANCELLED": 1}


def test_a_revoked_job_with_no_message_in_flight_is_cancelled(served: Fleet) -> None:
    """It waits in the cloud's queue, and is not due before long: no message of its own would see the revoke."""
    served.endpoint("echo").update(workers_min=0, workers_max=0)
    result = echo().delay()
    job = Job(result.id)
    eventually(lambda: job.status is State.WAITING, what="it waits")
    result.revoke()
    ended(job)
    assert result.state == "REVOKED"
    assert served.endpoint("echo").counters().ended == {"CANCELLED": 1}


def test_a_revoked_queued_job_never_starts(served: Fleet) -> None:
    result = echo().apply_async(countdown=20)
    result.revoke()
    ended(Job(result.id))
    assert result.state == "REVOKED"
    assert served.endpoint("echo").counters().accepted == 0


def test_a_revoked_job_that_completes_all_the_same_keeps_its_result(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Answer(op="cancel", status=500, times=None))
    result = echo({"simulate": {"seconds": 2.0}, "n": 7}).delay()
    job = Job(result.id)
    eventually(lambda: job.status is State.RUNNING, what="it runs")
    revoke(job.id)
    eventually(lambda: job.record.cancel, what="the store knows of the revoke")
    ended(job, State.COMPLETED)
    assert job.result()["data"]["n"] == 7
    assert result.get(timeout=5)["data"]["n"] == 7


def test_a_revoked_job_breaks_its_chord(served: Fleet) -> None:
    result = chord([echo({"n": 1}), echo()], ryla_tasks.run_endpoint.s("special", {"body": 1})).delay()
    endless = Job(result.parent.results[1].id)
    eventually(lambda: endless.status is State.RUNNING, what="it runs")
    revoke(endless.id)
    eventually(result.ready, what="the body has failed")
    assert isinstance(result.result, (ChordError, TaskRevokedError))
    assert served.endpoint("special").counters().accepted == 0


def echo_result(job: Job) -> Any:
    return ryla_tasks.run_endpoint.AsyncResult(job.id)
