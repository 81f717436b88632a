"""ryla_tasks' own app beside a host's app, in one canvas: each task goes to the queue that its caller's routes name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group

import ryla_tasks
from tests.support.fleet import Fleet, WorkerProcess, eventually


@pytest.fixture
def host(served: Fleet) -> Iterator[Any]:
    """The host's app, in this process as in a web process. It is the current app, as in most projects."""
    from tests.support.host_project import own_app

    own_app.app.conf.update(broker_url=served.redis.url, result_backend=served.redis.url)
    served.client.delete(*(served.client.keys("host*") or ["-"]))
    yield own_app
    served.client.delete(*(served.client.keys("host*") or ["-"]))


@pytest.fixture(scope="module")
def host_worker(whole_fleet: Fleet, shared_worker: WorkerProcess) -> WorkerProcess:
    """The host's own worker. It serves the host's queues, and has no task of ours."""
    return whole_fleet.worker(
        "--concurrency", "2", "-Q", "host.default,host.special", app="tests.support.host_project.own_app"
    ).wait_ready()


def image(**more: Any) -> Any:
    return ryla_tasks.generate_image.s(template="z-image-turbo", width=64, height=64, prompt="a hut", **more)


def calls(fleet: Fleet, key: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in fleet.client.lrange(f"host:{key}", 0, -1)]


def test_the_host_does_not_know_our_tasks(host: Any) -> None:
    """Otherwise the tests here would prove nothing."""
    assert "host.note" in host.app.tasks
    assert "ryla.generate_image" not in host.app.tasks
    assert isinstance(ryla_tasks.app, Celery)
    assert "ryla_tasks.celery_app" in sys.modules


def test_a_host_task_after_an_image_goes_to_the_hosts_default_queue(
    served: Fleet, host: Any, host_worker: WorkerProcess
) -> None:
    result = chain(image(seed=4), host.tasks.note.s(key="after")).delay()
    assert result.get(timeout=30)["pid"] == host_worker.pid
    (call,) = calls(served, "after")
    assert call["args"][0]["seed"] == 4


def test_a_host_task_that_the_hosts_routes_name_goes_where_they_say(
    served: Fleet, host: Any, host_worker: WorkerProcess, shared_worker: WorkerProcess
) -> None:
    host_worker_only = chain(image(seed=4), host.tasks.routed.s(key="routed")).delay()
    assert host_worker_only.get(timeout=30)["pid"] == host_worker.pid
    record = eventually(lambda: calls(served, "routed"))
    assert record[0]["args"][0]["seed"] == 4


def test_a_host_task_before_an_image_and_another_after(served: Fleet, host: Any, host_worker: WorkerProcess) -> None:
    result = chain(
        host.tasks.describe.s("a boat"),
        # The host's worker sends this on, and does not know where our tasks go.
        ryla_tasks.run_endpoint.s("echo", {"n": 1}).set(queue="ryla.jobs"),
        host.tasks.note.s(key="last").set(queue="host.default"),
    ).delay()
    result.get(timeout=30)
    (call,) = calls(served, "last")
    assert call["args"][0]["data"]["previous"] == {"words": "a boat"}


def test_a_host_task_is_the_body_of_a_chord_of_images(served: Fleet, host: Any, host_worker: WorkerProcess) -> None:
    chord([image(seed=seed) for seed in range(3)], host.tasks.note.s(key="body")).delay().get(timeout=30)
    (call,) = calls(served, "body")
    assert [one["seed"] for one in call["args"][0]] == [0, 1, 2]


def test_links_and_errbacks_of_the_host(served: Fleet, host: Any, host_worker: WorkerProcess) -> None:
    echo = ryla_tasks.run_endpoint.s("echo", {"n": 1})
    echo.apply_async(link=host.tasks.note.s(key="link"), link_error=host.tasks.note.si(key="never"))
    failing = ryla_tasks.run_endpoint.s("echo", {"simulate": {"fail": "no"}})
    failed = failing.apply_async(link=host.tasks.note.s(key="never"), link_error=host.tasks.note.si(key="errback"))
    eventually(lambda: len(calls(served, "link")) == 1 and len(calls(served, "errback")) == 1, what="link and errback")
    assert failed.state == "FAILURE"
    assert calls(served, "never") == []
    assert {call["pid"] for key in ("link", "errback") for call in calls(served, key)} == {host_worker.pid}


def test_a_group_of_host_tasks_after_an_image(served: Fleet, host: Any, host_worker: WorkerProcess) -> None:
    following = group(host.tasks.note.s(key="one"), host.tasks.routed.s(key="two"))
    result = chain(image(seed=1), following).delay()
    assert [one["pid"] for one in result.get(timeout=30)] == [host_worker.pid] * 2
    assert calls(served, "one")[0]["args"] == calls(served, "two")[0]["args"]


def test_a_host_task_in_a_chord_of_jobs(served: Fleet, host: Any, host_worker: WorkerProcess) -> None:
    header = [ryla_tasks.run_endpoint.s("echo", {"n": 1}), host.tasks.describe.s("a boat")]
    result = chord(header, ryla_tasks.run_endpoint.s("echo", {"n": 2})).delay()
    previous = result.get(timeout=30)["data"]["previous"]
    assert previous[0]["data"]["n"] == 1
    assert previous[1] == {"words": "a boat"}
