"""What a web process sees of its jobs: Celery's result, and the handle that is made from the id."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from celery import chain, group
from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks import Job, list_jobs
from ryla_tasks.errors import (
    Category,
    IdempotencyConflict,
    InvalidJob,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimedOut,
    WaitTimeout,
)
from ryla_tasks.jobs.states import Priority, State
from tests.support.fleet import Fleet, eventually
from tests.support.messages import is_idle

ENDLESS = {"simulate": {"never_end": True}}


def echo(job_input: dict[str, Any] | None = None, **options: Any) -> Any:
    return ryla_tasks.run_endpoint.s("echo", job_input or {"a": 1}, **options)


def phase_is(job: Job, phase: State) -> None:
    eventually(lambda: job.status is phase, what=f"{job.id} is {phase}")


# --- progress and ends ---


def test_the_result_shows_progress_while_the_job_is_under_way(served: Fleet) -> None:
    served.endpoint("image").update(run_s=3.0, steps=10)
    result = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a hut", width=64, height=64)
    assert result.state == "PROGRESS"
    assert result.info["phase"] == "queued"
    eventually(lambda: result.info.get("percent", 0) > 0, what="a percentage")
    info = result.info
    assert result.state == "PROGRESS"
    assert info.keys() >= {"job_id", "phase", "percent", "message", "eta_s", "endpoint", "attempt"}
    assert (info["job_id"], info["phase"], info["endpoint"]) == (result.id, "running", "image")
    assert 0 < info["percent"] < 100
    assert info["message"]
    assert info["eta_s"] > 0
    assert Job(result.id).progress.phase is State.RUNNING
    assert result.get(timeout=30)["job_id"] == result.id
    assert result.state == "SUCCESS"


@pytest.mark.parametrize(
    ("job_input", "kind", "code"),
    [
        ({"simulate": {"fail": "ValueError: no"}}, JobFailed, "worker_error"),
        ({"simulate": {"no_output": True}}, ryla_tasks.errors.OutputMissing, "output_missing"),
        ({"simulate": {"output": {"error": "no such style"}}}, JobFailed, "worker_error"),
    ],
)
def test_a_failed_job_raises_the_same_error_everywhere(
    served: Fleet, job_input: dict[str, Any], kind: type[JobFailed], code: str
) -> None:
    result = echo(job_input).delay()
    with pytest.raises(kind) as told:
        result.get(timeout=30)
    with pytest.raises(kind) as kept:
        Job(result.id).result()
    assert type(told.value) is type(kept.value) is kind
    assert told.value.args == kept.value.args
    assert told.value.job_id == result.id
    assert told.value.info["code"] == code
    assert isinstance(told.value.category, Category)
    assert str(told.value)
    assert Job(result.id).error is not None
    with pytest.raises(kind):
        Job(result.id).wait(timeout=1)


# --- handles ---


def test_an_unknown_id_is_an_error_that_names_it(served: Fleet) -> None:
    with pytest.raises(JobNotFound, match="no-such-job"):
        Job.get("no-such-job")
    assert Job("no-such-job").cancel() is False


def test_waiting_ends_with_the_patience_and_the_job_goes_on(served: Fleet) -> None:
    job = Job.get(echo(ENDLESS).delay().id)
    with pytest.raises(WaitTimeout, match=job.id):
        job.wait(timeout=0.2)
    with pytest.raises(WaitTimeout, match="no result yet"):
        job.result()
    assert job.error is None
    assert job.artifacts == []
    assert not job.status.ended


def test_wait_returns_the_result(served: Fleet) -> None:
    result = echo().delay()
    assert Job(result.id).wait(timeout=30) == result.get(timeout=5)


def test_events_can_be_followed_to_the_end_and_read_again_from_any_of_them(served: Fleet) -> None:
    served.endpoint("echo").update(run_s=1.0, steps=5)
    job = Job(echo().delay().id)
    seen = list(job.events(follow=True, timeout=30))
    assert [event.data["phase"] for event in (seen[0], seen[-1])] == ["queued", "completed"]
    assert [event.position for event in job.events(after=seen[1].position)] == [one.position for one in seen[2:]]
    assert list(job.events(after=seen[-1].position, follow=True, timeout=5)) == []
    assert [event.at for event in seen] == sorted(event.at for event in seen)


def test_following_gives_up_after_its_timeout(served: Fleet) -> None:
    job = Job(echo(ENDLESS).delay().id)
    assert all(not State(event.data["phase"]).ended for event in job.events(follow=True, timeout=0.5))


def test_artifacts_have_urls_that_are_made_when_asked_for(served: Fleet) -> None:
    result = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a hut", width=64, height=64, count=2)
    value = result.get(timeout=30)
    job = Job(result.id)
    assert [one.to_json() for one in job.artifacts] == value["artifacts"]
    assert len(job.artifacts) == 2
    assert job.artifacts[0].key in job.artifact_url(job.artifacts[0])
    assert "url" not in value["artifacts"][0]


def test_jobs_are_listed_newest_first_by_what_is_asked(served: Fleet) -> None:
    first = echo(user_id="ann", tags=["a"]).delay()
    second = echo(ENDLESS, user_id="bob").delay()
    third = ryla_tasks.run_endpoint.delay("special", {"workflow": {}, **ENDLESS}, user_id="ann")
    first.get(timeout=30)
    eventually(lambda: Job(second.id).status is State.RUNNING)

    def ids(**wanted: Any) -> list[str]:
        return [record.job_id for record in list_jobs(**wanted)]

    assert ids() == [third.id, second.id, first.id]
    assert ids(limit=1) == [third.id]
    assert ids(user_id="ann") == [third.id, first.id]
    assert ids(user_id="ann", status="completed") == [first.id]
    assert ids(status=State.RUNNING, endpoint="echo") == [second.id]
    assert ids(endpoint="special") == [third.id]
    assert ids(user_id="nobody") == []
    with pytest.raises(ValueError, match="nonsense"):
        ids(status="nonsense")


# --- options ---

OPTIONS: dict[str, Any] = {
    "user_id": "ann", "tags": ["a", "b"], "priority": "high", "deadline_s": 120, "max_retries": 2,
}  # fmt: skip


def _by_delay() -> str:
    return ryla_tasks.run_endpoint.delay("echo", {"a": 1}, **OPTIONS).id


def _by_apply_async() -> str:
    return ryla_tasks.run_endpoint.apply_async(("echo", {"a": 1}), **OPTIONS).id


def _by_apply_async_kwargs() -> str:
    return ryla_tasks.run_endpoint.apply_async(("echo",), {"input": {"a": 1}, **OPTIONS}).id


def _by_signature() -> str:
    return ryla_tasks.run_endpoint.s("echo", {"a": 1}, **OPTIONS).apply_async().id


def _by_set() -> str:
    return ryla_tasks.run_endpoint.s("echo", {"a": 1}).set(**OPTIONS).apply_async().id


def _by_group() -> str:
    return group([ryla_tasks.run_endpoint.s("echo", {"a": 1}, **OPTIONS)]).apply_async().results[0].id


def _by_chain() -> str:
    return chain(echo(), ryla_tasks.run_endpoint.si("echo", {"a": 1}).set(**OPTIONS)).apply_async().id


@pytest.mark.parametrize(
    "enqueue", [_by_delay, _by_apply_async, _by_apply_async_kwargs, _by_signature, _by_set, _by_group, _by_chain]
)
def test_options_mean_the_same_however_they_are_given(served: Fleet, enqueue: Any) -> None:
    job = Job(enqueue())
    AsyncResult(job.id, app=ryla_tasks.app).get(timeout=30)
    spec = job.record.spec
    assert (spec.user_id, spec.tags, spec.priority) == ("ann", ("a", "b"), Priority.HIGH)
    assert (spec.deadline_s, spec.max_retries) == (120, 2)
    assert job.result()["data"]["a"] == 1


@pytest.mark.parametrize(
    ("given", "means"), [("high", "high"), (0, "high"), (3, "normal"), (5, "normal"), (6, "low"), (9, "low")]
)
def test_priorities_are_words_or_celerys_numbers(served: Fleet, given: Any, means: str) -> None:
    assert Job(echo(ENDLESS).apply_async(priority=given).id).record.spec.priority == means


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"tags": ["x" * 65]}, "tags.0"),
        ({"on_unknown": "guess"}, "on_unknown"),
        ({"max_retries": -1}, "max_retries"),
        ({"time_limit": 5}, "time_limit"),
        ({"soft_time_limit": 5}, "soft_time_limit"),
        ({"expires": -5}, "expires"),
        ({"eta": datetime.datetime(2030, 1, 1)}, "eta"),  # noqa: DTZ001 - that it is naive is the point
    ],
)
def test_a_wrong_option_is_told_in_the_caller(served: Fleet, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob, match=field) as caught:
        ryla_tasks.run_endpoint.apply_async(("echo", {"a": 1}), **options)
    assert caught.value.field == field
    assert list_jobs() == []


def test_a_countdown_and_a_distant_eta_are_kept(served: Fleet) -> None:
    soon = echo().apply_async(countdown=0.7)
    later = echo().apply_async(eta=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=5))
    result = soon.get(timeout=30)
    assert result["timings"]["queued_s"] >= 0.7
    eventually(lambda: is_idle(served.client), what="nobody holds the distant job's message")
    assert Job(later.id).status is State.QUEUED
    assert Job(later.id).cancel()
    phase_is(Job(later.id), State.CANCELLED)


def test_a_job_that_has_not_started_by_its_expiry_never_starts(served: Fleet) -> None:
    result = echo().apply_async(countdown=20, expires=0.5)
    with pytest.raises(JobExpired) as caught:
        result.get(timeout=30)
    assert caught.value.info["code"] == "start_by"
    assert Job(result.id).status is State.EXPIRED
    assert served.endpoint("echo").counters().accepted == 0


def test_a_passed_deadline_times_the_job_out_and_cancels_it_remotely(served: Fleet) -> None:
    result = echo(ENDLESS, deadline_s=1).delay()
    with pytest.raises(JobTimedOut) as caught:
        result.get(timeout=30)
    assert caught.value.info["code"] == "deadline"
    assert Job(result.id).status is State.TIMED_OUT
    assert served.endpoint("echo").counters().ended == {"CANCELLED": 1}


# --- idempotency keys ---


def test_the_same_key_gives_the_same_job(served: Fleet) -> None:
    first = echo(idempotency_key="k1", user_id="ann").delay()
    assert echo(idempotency_key="k1", user_id="ann").delay().id == first.id
    assert echo(idempotency_key="k1", user_id="bob").delay().id != first.id
    first.get(timeout=30)
    assert echo(idempotency_key="k1", user_id="ann").delay().get(timeout=5)["job_id"] == first.id


def test_the_same_key_for_another_input_is_an_error_in_the_caller(served: Fleet) -> None:
    echo(idempotency_key="k2").delay()
    with pytest.raises(IdempotencyConflict, match="k2") as caught:
        echo({"a": 2}, idempotency_key="k2").delay()
    assert caught.value.field == "idempotency_key"
    assert len(list_jobs()) == 1


def test_a_seed_drawn_at_random_makes_no_other_wish(served: Fleet) -> None:
    wish = {"template": "z-image-turbo", "prompt": "a hut", "width": 64, "height": 64, "idempotency_key": "k3"}
    first = ryla_tasks.generate_image.delay(**wish)
    assert ryla_tasks.generate_image.delay(**wish).id == first.id


def test_inside_a_canvas_the_key_gives_an_alias_that_ends_with_the_first(served: Fleet) -> None:
    key = {"idempotency_key": "k4"}
    slow = {"simulate": {"seconds": 1}}
    first = echo(slow, **key).delay()
    in_group = group(echo(slow, **key), echo(slow, **key)).apply_async()
    in_chain = chain(echo(slow, **key), echo({"last": 1})).delay()
    values = in_group.get(timeout=30)
    assert [value["job_id"] for value in values] == [first.id] * 2
    assert in_chain.get(timeout=30)["data"]["previous"]["job_id"] == first.id
    late = chain(echo(slow, **key), echo({"late": 1})).delay()
    assert late.get(timeout=30)["data"]["previous"]["job_id"] == first.id
    assert served.endpoint("echo").counters().accepted == 3
    assert {Job(child.id).record.alias_of for child in in_group.results} == {first.id}


def test_a_job_with_a_link_gets_an_alias_too_so_that_its_link_is_called(served: Fleet) -> None:
    first = echo(idempotency_key="k5").delay()
    link = ryla_tasks.run_endpoint.s("echo", {"linked": 1}).set(task_id="linked-by-alias")
    second = echo(idempotency_key="k5").apply_async(link=link)
    assert second.id != first.id
    assert second.get(timeout=30)["job_id"] == first.id
    linked = AsyncResult("linked-by-alias", app=ryla_tasks.app).get(timeout=30)
    assert linked["data"]["previous"]["job_id"] == first.id
