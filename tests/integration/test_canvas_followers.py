"""Followers that cannot be sent: the job before them has ended all the same, and is told once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult

from ryla_tasks import Job
from ryla_tasks.jobs.states import State
from tests.conftest import QUICK, fresh_settings
from tests.support.fleet import Fleet, WorkerProcess, eventually


@pytest.fixture(scope="module")
def canvas(whole_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    away = tmp_path_factory.mktemp("awkward") / "away"
    os.environ["AWKWARD_AWAY"] = str(away)
    whole_fleet.stop_workers()
    whole_fleet.reset()
    env = {**QUICK, "AWKWARD_AWAY": str(away)}
    worker = whole_fleet.worker("--concurrency", "4", "-Q", QUEUES, app="tests.support.awkward_app", **env)
    yield worker.wait_ready()
    whole_fleet.stop_workers()


QUEUES = "ryla.jobs,ryla.polls,ryla.maintenance,celery"


@pytest.fixture
def awkward(whole_fleet: Fleet, canvas: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from tests.support import awkward_app

    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    fresh_settings()
    whole_fleet.reset(run_s=0.2, queue_delay_s=0.0)
    yield awkward_app
    monkeypatch.undo()
    fresh_settings()


def told(result: AsyncResult[Any]) -> Job:
    """The job, when it is done and nothing is owed."""
    job = Job(result.id)
    assert result.get(timeout=20)["job_id"] == result.id
    eventually(lambda: job.record.delivered, what="nothing is owed")
    assert job.status is State.COMPLETED
    assert job.record.deliveries == 1
    return job


@pytest.mark.parametrize(("wrong", "kind"), [({"n": -1}, ValueError), ({"unknown": 1}, TypeError)])
def test_a_follower_whose_function_raises_fails_alone(awkward: Any, wrong: dict[str, Any], kind: type) -> None:
    result = chain(awkward.checked.s(n=1), awkward.checked.s(**wrong), awkward.checked.s(n=2)).apply_async()
    with pytest.raises(kind):
        result.get(timeout=20)
    told(result.parent.parent)


def test_a_host_s_task_that_cannot_follow_fails_alone(awkward: Any) -> None:
    result = chain(awkward.checked.s(n=1), awkward.no_arguments.s(), awkward.checked.s(n=2)).apply_async()
    with pytest.raises(TypeError):
        result.get(timeout=20)
    with pytest.raises(TypeError):
        result.parent.get(timeout=20)
    told(result.parent.parent)


def test_a_chord_s_body_is_told_of_a_part_whose_follower_cannot_be_sent(awkward: Any) -> None:
    part = chain(awkward.checked.s(n=1), awkward.no_arguments.s())
    result = chord([part, awkward.checked.s(n=2)], awkward.noted.s()).apply_async()
    with pytest.raises(Exception, match="takes 0 positional arguments"):
        result.get(timeout=20)


def test_a_group_behind_a_link_that_cannot_be_sent_fails(awkward: Any) -> None:
    first = awkward.checked.s(n=1).on_error(awkward.noted.si())
    first.link(awkward.no_arguments.s())
    result = chain(first, group(awkward.checked.s(n=2), awkward.checked.s(n=3))).apply_async()
    with pytest.raises(TypeError):
        result.get(timeout=20)
    told(result.parent)


def test_links_beside_one_that_cannot_be_sent_run_once(awkward: Any, whole_fleet: Fleet) -> None:
    links = [awkward.noted.s(), awkward.checked.s(n=-1), awkward.no_arguments.s()]
    told(awkward.checked.apply_async(kwargs={"n": 1}, link=links))
    assert int(eventually(lambda: whole_fleet.client.get("awkward:noted"), what="the good link has run")) == 1


def test_what_was_away_at_the_end_is_asked_again_in_seconds(awkward: Any, canvas: WorkerProcess) -> None:
    away = Path(os.environ["AWKWARD_AWAY"])
    away.touch()
    result = chain(awkward.checked.s(n=1), awkward.waits.s()).apply_async()
    eventually(lambda: f"end.put_off job={result.parent.id}" in canvas.text, what="the end is put off")
    away.unlink()
    assert result.get(timeout=30)["data"]["n"] == 1
    assert result.parent.get(timeout=30)["data"]["n"] == 1
