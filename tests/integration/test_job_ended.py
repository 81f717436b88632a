"""`job_ended`: sent in the worker before Celery is told, at least once, and again where a receiver fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ryla_tasks
from ryla_tasks import Job, run_endpoint
from ryla_tasks.errors import JobFailed
from ryla_tasks.signals import job_ended
from ryla_tasks.tasks.runtime import runtime_of
from tests.support.fleet import Fleet, WorkerProcess, eventually

APP = "tests.support.heard_app"


def heard(notes: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def start(fleet: Fleet, notes: Path, *options: str, **env: str) -> WorkerProcess:
    return fleet.worker("--concurrency", "4", app=APP, HEARD=str(notes), **env).wait_ready()


def test_each_kind_of_end_is_heard_before_celery_is_told(fleet: Fleet, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    start(fleet, notes)
    done = run_endpoint.delay("echo", {"n": 1}, user_id="42")
    failed = run_endpoint.delay("echo", {"n": 2, "simulate": {"fail": "broken"}}, max_retries=0)
    assert done.get(timeout=30)["data"] is not None
    with pytest.raises(JobFailed):
        failed.get(timeout=30)
    # No waiting: whoever has the result has been told after the receivers.
    said = {line["job"]: line for line in heard(notes)}
    assert said[done.id] | {"state": "completed", "user": "42", "ended": True} == said[done.id]
    assert said[failed.id]["state"] == "failed"
    waiting = run_endpoint.apply_async(args=("echo", {"n": 1}), countdown=600)
    Job(waiting.id).cancel()
    eventually(lambda: any(line["job"] == waiting.id for line in heard(notes)), what="the cancelled one is heard")
    assert len(heard(notes)) == 3


@pytest.mark.parametrize("more", [{}, {"HEARD_LEAVES": "1"}], ids=["fails", "leaves"])
def test_a_receiver_that_fails_is_told_again(fleet: Fleet, tmp_path: Path, more: dict[str, str]) -> None:
    notes = tmp_path / "notes"
    start(fleet, notes, HEARD_FAILS="2", **more)
    result = run_endpoint.delay("echo", {"n": 1})
    result.get(timeout=40)
    assert [line["try"] for line in heard(notes) if line["job"] == result.id] == [1, 2, 3]


def test_one_that_never_listens_holds_no_result_for_ever(fleet: Fleet, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    result = run_endpoint.delay("echo", {"n": 1})
    # As if it had failed seven times already.
    fleet.client.hset(f"ryla:job:{result.id}", "unheard", 7)
    start(fleet, notes, HEARD_FAILS="100")
    result.get(timeout=40)
    assert len(heard(notes)) == 1
    (alert,) = [one for one in runtime_of(ryla_tasks.app).targets.alerts() if one.type == "unheard"]
    assert alert.data["job_id"] == result.id
    assert "OSError" in alert.data["details"]


def test_eager_mode_sends_it_too(fleet: Fleet) -> None:
    ended = []

    def note(sender: Any, job: Job, record: Any, **_: Any) -> None:
        ended.append((sender.name, job.status, job.result()["job_id"]))

    job_ended.connect(note)
    ryla_tasks.app.conf.task_always_eager = True
    try:
        result = run_endpoint.delay("echo", {"n": 1}).get()
    finally:
        ryla_tasks.app.conf.task_always_eager = False
        job_ended.disconnect(note)
    assert ended == [("ryla.run_endpoint", "completed", result["job_id"])]
