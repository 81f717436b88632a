"""Messages are hints: one that comes twice, early or late changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chord
from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.jobs.states import State
from tests.support.fleet import Fleet, eventually
from tests.support.messages import envelope_of, is_idle, poll_again, send_again


def echo(**job_input: Any) -> Any:
    return ryla_tasks.run_endpoint.s("echo", job_input or {"a": 1})


def state_is(job_id: str, state: State) -> None:
    eventually(lambda: ryla_tasks.Job(job_id).status is state, what=f"{job_id} is {state}")


def test_every_message_thrice_in_every_phase_and_all_happens_once(served: Fleet) -> None:
    link = ryla_tasks.run_endpoint.s("lora", {"link": 1})
    result = echo(simulate={"never_end": True}).apply_async(link=link)
    message = envelope_of(result.id)
    send_again(message, Step.SUBMIT, 3)
    state_is(result.id, State.RUNNING)
    job = ryla_tasks.Job(result.id)
    target = job.record.target
    send_again(message, Step.SUBMIT, 3)
    send_again(message, Step.DELIVER, 3)
    poll_again(target, 3)
    eventually(lambda: is_idle(served.client), what="the doubled messages are carried out")
    assert job.status is State.RUNNING
    served.endpoint("echo").update(execution_timeout_s=600)
    assert served.endpoint("echo").counters().accepted == 1
    assert served.endpoint("lora").counters().accepted == 0


def test_delivering_thrice_at_once_calls_the_link_once(served: Fleet) -> None:
    link = ryla_tasks.run_endpoint.s("lora", {"link": 1})
    result = echo(simulate={"seconds": 0.5}).apply_async(link=link)
    message = envelope_of(result.id)
    for _ in range(30):
        send_again(message, Step.DELIVER)
        send_again(message, Step.SUBMIT)
        if AsyncResult(result.id, app=ryla_tasks.app).ready():
            break
        eventually(lambda: is_idle(served.client), what="the doubled messages are carried out")
    first = result.get(timeout=30)
    send_again(message, Step.DELIVER, 3)
    send_again(message, Step.SUBMIT, 3)
    eventually(lambda: is_idle(served.client), what="the doubled messages are carried out")
    eventually(lambda: served.endpoint("lora").counters().ended, what="the link has run")
    assert AsyncResult(result.id, app=ryla_tasks.app).get(timeout=1) == first
    assert ryla_tasks.Job(result.id).result() == first
    assert served.endpoint("lora").counters().accepted == 1
    assert served.endpoint("echo").counters().accepted == 1


def test_a_chord_fires_once_whatever_is_doubled(served: Fleet) -> None:
    header = [echo(n=n, simulate={"seconds": 0.3}) for n in range(4)]
    body = chord(header, ryla_tasks.run_endpoint.s("lora", {"body": 1})).delay()
    messages = [envelope_of(child.id) for child in body.parent.results]
    for message in messages:
        send_again(message, Step.SUBMIT, 2)
        send_again(message, Step.DELIVER, 2)
    eventually(lambda: served.endpoint("echo").counters().ended.get("COMPLETED") == 4, what="the header has run")
    for message in messages:
        send_again(message, Step.DELIVER, 2)
    value = body.get(timeout=30)
    assert [one["data"]["n"] for one in value["data"]["previous"]] == [0, 1, 2, 3]
    for message in messages:
        send_again(message, Step.DELIVER, 2)
    eventually(lambda: is_idle(served.client), what="the doubled messages are carried out")
    assert served.endpoint("echo").counters().accepted == 4
    assert served.endpoint("lora").counters().accepted == 1


def test_a_failure_delivered_thrice_calls_the_errback_once(served: Fleet) -> None:
    errback = ryla_tasks.run_endpoint.si("lora", {"errback": 1})
    result = echo(simulate={"fail": "no", "seconds": 0.3}).apply_async(link_error=errback)
    message = envelope_of(result.id)
    send_again(message, Step.DELIVER, 3)
    with pytest.raises(ryla_tasks.errors.JobFailed):
        result.get(timeout=30)
    send_again(message, Step.DELIVER, 3)
    eventually(lambda: is_idle(served.client), what="the doubled messages are carried out")
    eventually(lambda: served.endpoint("lora").counters().ended, what="the errback has run")
    assert served.endpoint("lora").counters().accepted == 1


def test_creating_a_job_again_under_its_id_changes_nothing(served: Fleet) -> None:
    first = echo(n=1).apply_async(task_id="again-1")
    second = echo(n=2).apply_async(task_id="again-1")
    assert first.id == second.id
    assert second.get(timeout=30)["data"]["n"] == 1
    assert echo(n=3).apply_async(task_id="again-1").get(timeout=5)["data"]["n"] == 1
    assert served.endpoint("echo").counters().accepted == 1
