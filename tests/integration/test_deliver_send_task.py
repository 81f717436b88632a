"""`send_task` from an app that does not have this package: the job is recorded when a worker first gets its message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Signature
from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import ConfigurationError, IdempotencyConflict, InvalidJob, UnknownTemplate
from ryla_tasks.jobs.states import State
from ryla_tasks.tasks.runtime import runtime_of
from tests.support.fleet import Fleet, eventually
from tests.support.messages import is_idle
from tests.support.pictures import picture


@pytest.fixture
def bare(served: Fleet) -> Iterator[Celery]:
    """An app of somebody who has Celery and our Redis address, and nothing of ours."""
    app = Celery("bare", broker=served.redis.url, backend=served.redis.url, set_as_current=False)
    yield app
    app.close()


def send(app: Celery, name: str = "ryla.run_endpoint", **options: Any) -> AsyncResult[Any]:
    return app.send_task(name, queue="ryla.jobs", **options)


def echo(app: Celery, job_input: dict[str, Any], **options: Any) -> AsyncResult[Any]:
    return send(app, kwargs={"endpoint": "echo", "input": job_input}, **options)


def test_a_job_by_name_is_recorded_and_ends_with_its_result(served: Fleet, bare: Celery) -> None:
    wish = {"template": "z-image-turbo", "prompt": "a hut", "width": 64, "height": 64, "seed": 3}
    result = send(bare, "ryla.generate_image", kwargs={**wish, "user_id": "ann", "priority": "low", "tags": ["t"]})
    value = result.get(timeout=30)
    assert (value["seed"], value["job_id"]) == (3, result.id)
    record = Job.get(result.id).record
    assert (record.state, record.spec.user_id, record.spec.tags) == (State.COMPLETED, "ann", ("t",))
    assert served.endpoint("image").counters().accepted == 1


def test_a_sheet_by_name(served: Fleet, bare: Celery) -> None:
    wish = {"image": picture(), "angles": ["front", "back"], "width": 64, "height": 64}
    value = send(bare, "ryla.make_character_sheet", kwargs=wish).get(timeout=30)
    assert [cell["status"] for cell in value["cells"]] == ["completed", "completed"]


def test_links_and_chains_of_such_a_job_are_kept(served: Fleet, bare: Celery) -> None:
    link = Signature("ryla.run_endpoint", ("echo", {"x": 1}), app=bare)
    last = Signature("ryla.run_endpoint", ("echo", {"last": 1}), app=bare, options={"queue": "ryla.jobs"})
    link.set(queue="ryla.jobs", task_id="linked-by-name")
    last.set(task_id="last-by-name")
    echo(bare, {"first": 1}, link=[link], chain=[dict(last)])
    assert bare.AsyncResult("last-by-name").get(timeout=30)["data"]["previous"]["data"]["first"] == 1
    assert bare.AsyncResult("linked-by-name").get(timeout=30)["data"]["x"] == 1


@pytest.mark.parametrize(
    ("name", "kwargs", "kind", "says"),
    [
        ("ryla.generate_image", {"template": "nope"}, UnknownTemplate, "nope"),
        ("ryla.generate_image", {}, InvalidJob, "workflow"),
        ("ryla.run_endpoint", {"endpoint": "echo", "input": {}}, InvalidJob, "input"),
        ("ryla.run_endpoint", {"endpoint": "echo", "input": {"a": 1}, "deadline_s": 0}, InvalidJob, "deadline_s"),
        ("ryla.run_endpoint", {"endpoint": "nowhere", "input": {"a": 1}}, ConfigurationError, "RYLA_ENDPOINT_NOWHERE"),
    ],
)
def test_bad_input_is_the_task_s_failure(
    served: Fleet, bare: Celery, name: str, kwargs: dict[str, Any], kind: type[Exception], says: str
) -> None:
    result = send(bare, name, kwargs=kwargs)
    with pytest.raises(kind, match=says) as caught:
        result.get(timeout=30)
    assert type(caught.value) is kind
    assert result.state == "FAILURE"
    assert ryla_tasks.list_jobs() == []


def test_a_key_used_for_another_input_is_the_task_s_failure(served: Fleet, bare: Celery) -> None:
    ryla_tasks.run_endpoint.delay("echo", {"a": 1}, idempotency_key="k").get(timeout=30)
    result = send(bare, kwargs={"endpoint": "echo", "input": {"a": 2}, "idempotency_key": "k"})
    with pytest.raises(IdempotencyConflict, match="k"):
        result.get(timeout=30)


def test_a_key_used_for_the_same_wish_ends_with_that_job(served: Fleet, bare: Celery) -> None:
    wish = {"endpoint": "echo", "input": {"a": 1, "simulate": {"seconds": 0.5}}, "idempotency_key": "k"}
    first, second = send(bare, kwargs=wish), send(bare, kwargs=wish)
    values = first.get(timeout=30), second.get(timeout=30)
    assert values[0] == values[1]
    assert served.endpoint("echo").counters().accepted == 1


def test_the_same_message_twice_is_one_job(served: Fleet, bare: Celery) -> None:
    for _ in range(3):
        echo(bare, {"n": 1, "simulate": {"seconds": 0.3}}, task_id="twice-1")
    assert bare.AsyncResult("twice-1").get(timeout=30)["data"]["n"] == 1
    echo(bare, {"n": 1}, task_id="twice-1")
    eventually(lambda: is_idle(served.client), what="all its messages are carried out")
    assert served.endpoint("echo").counters().accepted == 1


def test_a_message_that_comes_after_its_record_has_gone_runs_nothing(served: Fleet, bare: Celery) -> None:
    result = echo(bare, {"n": 1}, task_id="late-1")
    result.get(timeout=30)
    eventually(lambda: Job("late-1").record.delivered, what="nothing is owed")
    # Its retention is over: the next sweep drops the record.
    served.client.zadd("ryla:expiry", {"late-1": 1})
    eventually(lambda: not served.client.exists("ryla:job:late-1"), what="the record has gone")
    echo(bare, {"n": 1}, task_id="late-1")
    eventually(lambda: is_idle(served.client), what="the late message is carried out")
    assert served.endpoint("echo").counters().accepted == 1
    assert not served.client.exists("ryla:job:late-1")
    assert result.state == "SUCCESS"


def test_the_input_leaves_the_messages_with_the_first_claim(served: Fleet, bare: Celery) -> None:
    result = echo(bare, {"secret": "s3cr3t-prompt", "simulate": {"never_end": True}})
    eventually(lambda: served.client.exists(f"ryla:job:{result.id}"), what="it is recorded")
    envelope = runtime_of(ryla_tasks.app).store.delivery(result.id).envelope
    assert "s3cr3t-prompt" not in envelope
    assert json.loads(envelope)["body"][:2] == [[], {}]
