"""Jobs in chain, group, chord and with links: Celery does what it always does, with one task a job."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks.errors import InvalidJob, JobFailed
from ryla_tasks.jobs.states import State
from tests.support.fleet import Fleet, eventually


def image(**more: Any) -> Any:
    return ryla_tasks.generate_image.s(template="z-image-turbo", width=64, height=64, steps=2, prompt="a hut", **more)


def echo(**job_input: Any) -> Any:
    return ryla_tasks.run_endpoint.s("echo", job_input or {"a": 1})


def failing() -> Any:
    return echo(simulate={"fail": "no memory left"})


def echo_inputs(fleet: Fleet) -> list[dict[str, Any]]:
    """What the echo endpoint was sent, without our mark of the attempt."""
    endpoint = fleet.endpoint("echo")
    return [_unmarked(endpoint.job(job.id).input) for job in endpoint.jobs()]


def _unmarked(data: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (data or {}).items() if name != "ryla"}


def test_a_group_of_images_gives_each_its_own_result(served: Fleet) -> None:
    result = group(image(seed=seed) for seed in range(3)).apply_async()
    assert [value["seed"] for value in result.get(timeout=30)] == [0, 1, 2]


def test_a_chord_of_ten_images_calls_its_body_once_with_all_results_in_order(served: Fleet) -> None:
    result = chord([image(seed=seed) for seed in range(10)], echo(body=1)).delay()
    value = result.get(timeout=40)
    previous = value["data"]["previous"]
    assert [one["seed"] for one in previous] == list(range(10))
    assert len({one["artifacts"][0]["key"] for one in previous}) == 10
    assert served.endpoint("image").counters().accepted == 10
    assert served.endpoint("echo").counters().accepted == 1


def test_the_second_image_of_a_chain_gets_the_artifacts_of_the_first(served: Fleet) -> None:
    result = chain(image(seed=1), image(seed=2)).delay()
    second = result.get(timeout=30)
    first = result.parent.get(timeout=1)
    assert (first["seed"], second["seed"]) == (1, 2)
    endpoint = served.endpoint("image")
    sent = [endpoint.job(job.id).input for job in endpoint.jobs()]
    assert "images" not in sent[0]
    (given,) = sent[1]["images"]
    stored = (served.folder / "artifacts" / first["artifacts"][0]["key"]).read_bytes()
    assert given["name"] == "input_1.png"
    assert base64.b64decode(given["image"]) == stored


def test_run_endpoint_in_a_chain_finds_the_previous_result_in_its_input(served: Fleet) -> None:
    result = chain(image(seed=5), ryla_tasks.run_endpoint.s("echo", {"what": "check"})).delay()
    data = result.get(timeout=30)["data"]
    assert data["what"] == "check"
    assert data["previous"]["seed"] == 5


def test_immutable_signatures_take_nothing_from_before(served: Fleet) -> None:
    second = ryla_tasks.run_endpoint.si("echo", {"what": "alone"})
    result = chain(echo(n=1), second, ryla_tasks.run_endpoint.si("echo", {"what": "too"})).delay()
    assert _unmarked(result.get(timeout=30)["data"]) == {"what": "too"}
    assert all("previous" not in one for one in echo_inputs(served))


def test_link_is_called_with_the_result_and_link_error_is_not(served: Fleet) -> None:
    link = ryla_tasks.run_endpoint.s("echo", {"linked": True}).set(task_id="linked-1")
    errback = ryla_tasks.run_endpoint.si("echo", {"errback": True})
    result = image(seed=3).apply_async(link=link, link_error=errback)
    assert result.get(timeout=30)["seed"] == 3
    assert AsyncResult("linked-1", app=ryla_tasks.app).get(timeout=30)["data"]["previous"]["seed"] == 3
    assert len(echo_inputs(served)) == 1


def test_link_error_is_called_when_the_job_fails(served: Fleet) -> None:
    errback = ryla_tasks.run_endpoint.si("echo", {"errback": True}).set(task_id="errback-1")
    result = failing().apply_async(link=echo(never=1), link_error=errback)
    with pytest.raises(JobFailed):
        result.get(timeout=30)
    assert AsyncResult("errback-1", app=ryla_tasks.app).get(timeout=30)["data"]["errback"]
    assert [set(one) for one in echo_inputs(served)] == [{"simulate"}, {"errback"}]


def test_a_chain_stops_at_its_first_failure(served: Fleet) -> None:
    result = chain(failing(), echo(second=1), echo(third=1)).delay()
    with pytest.raises(JobFailed) as caught:
        result.get(timeout=30)
    assert caught.value.job_id == result.parent.parent.id
    assert result.state == "FAILURE"
    assert served.endpoint("echo").counters().accepted == 1


def test_a_chord_with_a_failing_header_fails_its_body(served: Fleet) -> None:
    body = echo(body=1).on_error(ryla_tasks.run_endpoint.si("echo", {"errback": 1}).set(task_id="errback-2"))
    result = chord([echo(n=1), failing(), echo(n=2)], body).delay()
    eventually(result.ready, what="the body has failed")
    assert isinstance(result.result, ChordError)
    assert "GPU worker reported" in str(result.result)
    assert AsyncResult("errback-2", app=ryla_tasks.app).get(timeout=30)["data"]["errback"]
    assert not any("body" in one for one in echo_inputs(served))


def test_a_follower_with_bad_input_fails_and_what_came_before_it_does_not(served: Fleet) -> None:
    result = chain(echo(n=1), ryla_tasks.generate_image.s(template="no-such-template")).delay()
    with pytest.raises(InvalidJob, match="no-such-template"):
        result.get(timeout=30)
    assert result.parent.get(timeout=30)["data"]["n"] == 1
    parent = ryla_tasks.Job.get(result.parent.id)
    eventually(lambda: parent.record.delivered, what="the first job is delivered")
    assert parent.status is State.COMPLETED


def test_a_group_between_jobs_of_a_chain(served: Fleet) -> None:
    result = chain(echo(n=0), group(echo(n=1), echo(n=2)), echo(n=3)).delay()
    data = result.get(timeout=30)["data"]
    assert data["n"] == 3
    assert [one["data"]["n"] for one in data["previous"]] == [1, 2]
    assert [one["data"]["previous"]["data"]["n"] for one in data["previous"]] == [0, 0]
