"""What Celery lets one say of a task or a call: kept, or refused with a clear error."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import pytest

import ryla_tasks
from ryla_tasks import Job, ServerlessTask, list_jobs
from ryla_tasks.errors import ConfigurationError, InvalidJob
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.jobs.states import State
from ryla_tasks.tasks.envelope import Envelope
from ryla_tasks.tasks.runtime import runtime_of
from tests.support.fleet import Fleet, WorkerProcess, eventually

app = ryla_tasks.app
WISH: dict[str, Any] = {"endpoint": "echo", "input": {"n": 1}}


@app.task(base=ServerlessTask, endpoint="echo", name="options.brief", expires=5, serializer="pickle", shared=False)
def brief() -> dict[str, Any]:
    """A job that must start soon."""
    return {"n": 1}


@app.task(base=ServerlessTask, endpoint="echo", name="options.limited", soft_time_limit=5, shared=False)
def limited() -> dict[str, Any]:
    """A job with a limit that cannot be kept."""
    return {"n": 1}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


# --- refused ---


@pytest.mark.parametrize("call", [{"time_limit": 5}, {"soft_time_limit": 5}])
def test_a_call_s_time_limit_is_refused(fleet: Fleet, call: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob) as caught:
        ryla_tasks.run_endpoint.apply_async(kwargs=WISH, **call)
    assert caught.value.field in call


def test_a_class_s_time_limit_is_refused(fleet: Fleet) -> None:
    with pytest.raises(InvalidJob) as caught:
        limited.delay()
    assert caught.value.field == "soft_time_limit"
    assert list_jobs() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("countdown", "abc"),
        ("countdown", math.inf),
        ("countdown", math.nan),
        ("countdown", 1e15),
        ("countdown", 10**400),
        ("countdown", True),
        ("countdown", datetime.timedelta(seconds=1)),
        ("eta", "tomorrow"),
        ("eta", datetime.date(2100, 1, 1)),
        ("eta", datetime.datetime(2100, 1, 1)),  # noqa: DTZ001 - a naive one is what is refused
        ("expires", "x"),
        ("expires", math.nan),
        ("expires", -1),
        ("task_id", 5),
        ("task_id", b"bytes"),
        ("priority", "urgent"),
    ],
)
def test_a_bad_option_is_named(fleet: Fleet, field: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        ryla_tasks.run_endpoint.apply_async(kwargs=WISH, **{field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert list_jobs() == []


def test_an_input_that_is_nested_too_deeply_is_refused(fleet: Fleet) -> None:
    with pytest.raises(InvalidJob) as caught:
        ryla_tasks.run_endpoint.delay("echo", nested(5_000), idempotency_key="deep")
    assert caught.value.field == "input"


@pytest.mark.parametrize(("field", "value"), [("status", "nope"), ("limit", -1), ("limit", "5"), ("limit", True)])
def test_a_bad_question_for_jobs_is_refused(fleet: Fleet, field: str, value: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        list_jobs(**{field: value})
    assert caught.value.field == field


def test_a_parameter_with_the_name_of_a_job_option_is_refused_at_the_definition() -> None:
    def takes(user_id: str) -> dict[str, Any]:
        return {"user": user_id}

    with pytest.raises(ConfigurationError, match="user_id"):
        app.task(base=ServerlessTask, endpoint="echo", name="options.takes", shared=False, lazy=False)(takes)
    assert "options.takes" not in app.tasks


# --- kept ---


def test_keys_of_mixed_types_make_one_wish_with_their_text(fleet: Fleet) -> None:
    first = ryla_tasks.run_endpoint.delay("echo", {1: "a", "b": 2}, idempotency_key="mixed")
    assert ryla_tasks.run_endpoint.delay("echo", {"b": 2, "1": "a"}, idempotency_key="mixed").id == first.id


def test_an_eta_far_back_is_now_and_a_class_s_expires_is_in_the_record_alone(fleet: Fleet) -> None:
    long_ago = datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC)
    job_id = brief.apply_async(eta=long_ago).id
    (queue,) = [key for key in fleet.client.scan_iter("ryla.jobs*") if fleet.client.type(key) == b"list"]
    message = json.loads(fleet.client.lindex(queue, 0))
    assert message["headers"]["id"] == job_id
    assert (message["headers"]["expires"], message["headers"]["timelimit"]) == (None, [None, None])
    assert message["content-type"] == "application/json"
    assert fleet.client.zscore("ryla:deadlines", f"start|{job_id}") is not None


def test_a_message_of_another_serializer_is_json_all_the_same(served: Fleet) -> None:
    result = ryla_tasks.run_endpoint.apply_async(kwargs=WISH, serializer="pickle")
    assert result.get(timeout=20)["data"]["n"] == 1


def test_a_doubled_message_that_has_expired_leaves_its_running_job_alone(
    served: Fleet, shared_worker: WorkerProcess
) -> None:
    served.endpoint("echo").update(run_s=2.0)
    job = Job(ryla_tasks.run_endpoint.apply_async(kwargs=WISH).id)
    eventually(lambda: job.status is State.RUNNING, what="the job runs")
    body, publish = Envelope(runtime_of(app).store.delivery(job.id).envelope).message(Step.SUBMIT)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=5)
    publish["headers"]["expires"] = past.isoformat()
    with app.producer_or_acquire() as producer:
        producer.publish(body, **publish)
    dropped = f"Discarding revoked task: ryla.run_endpoint[{job.id}]"
    eventually(lambda: dropped in shared_worker.text, what="Celery drops it")
    assert job.status is State.RUNNING
    assert job.wait(timeout=20)["data"]["n"] == 1
    eventually(lambda: job.record.delivered, what="it is told")
    assert served.endpoint("echo").counters().ended.get("CANCELLED") is None


def test_of_an_ignored_result_celery_keeps_nothing(served: Fleet) -> None:
    result = ryla_tasks.run_endpoint.apply_async(kwargs=WISH, ignore_result=True)
    job = Job(result.id)
    assert job.wait(timeout=20)["data"]["n"] == 1
    eventually(lambda: job.record.delivered, what="nothing is owed")
    assert result.get(timeout=1) is None
    assert not served.client.exists(f"celery-task-meta-{job.id}")
