"""A job that is done stays done, whatever happens while Celery is told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from celery import chord
from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import JobFailed
from ryla_tasks.jobs.states import State
from tests.conftest import QUICK, fresh_settings
from tests.support.fleet import Fleet, WorkerProcess, eventually


@pytest.fixture
def quick(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    fresh_settings()
    fleet.reset(run_s=0.2, queue_delay_s=0.0)
    return fleet


def faulty(fleet: Fleet, how: str, file: Path) -> WorkerProcess:
    env = {**QUICK, "RYLA_TEST_RESULTS": f"{how}:{file}"}
    return fleet.worker("--concurrency", "4", app="tests.support.faulty_results", **env).wait_ready()


def celery_s_word(fleet: Fleet, job_id: str) -> str:
    meta: dict[str, Any] = json.loads(fleet.client.get(f"celery-task-meta-{job_id}") or b"{}")
    return str(meta.get("status"))


def test_a_worker_killed_between_collecting_and_storing_leaves_the_same_bytes(quick: Fleet, tmp_path: Path) -> None:
    worker = faulty(quick, "kill", tmp_path / "killed")
    link = ryla_tasks.run_endpoint.s("echo", {"linked": 1}).set(task_id="after-the-kill")
    wish = {"template": "z-image-turbo", "prompt": "a hut", "width": 64, "height": 64}
    result = ryla_tasks.generate_image.apply_async(kwargs=wish, link=link)
    eventually(lambda: not worker.alive(), what="the worker is killed")
    job = Job(result.id)
    assert job.status is State.COMPLETED
    collected = job.result()
    (artifact,) = job.artifacts
    kept = (quick.folder / "artifacts" / artifact.key).read_bytes()
    assert celery_s_word(quick, job.id) == "PROGRESS"

    faulty(quick, "kill", tmp_path / "killed")
    assert result.get(timeout=30) == collected
    assert (quick.folder / "artifacts" / artifact.key).read_bytes() == kept
    assert AsyncResult("after-the-kill", app=ryla_tasks.app).get(timeout=30)["data"]["previous"] == collected
    assert job.record.deliveries == 2
    assert quick.endpoint("image").counters().accepted == 1
    assert quick.endpoint("echo").counters().accepted == 1


def test_a_refused_result_write_does_not_make_a_failure_of_a_completed_job(quick: Fleet, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    worker = faulty(quick, "refuse", full)
    errback = ryla_tasks.run_endpoint.si("special", {"errback": 1})
    result = ryla_tasks.run_endpoint.s("echo", {"n": 1}).apply_async(link_error=errback)
    job = Job(result.id)
    eventually(lambda: "end.put_off" in worker.text, what="the write is refused")
    assert job.status is State.COMPLETED
    assert celery_s_word(quick, job.id) == "PROGRESS"
    full.unlink()
    assert result.get(timeout=30)["data"]["n"] == 1
    eventually(lambda: job.record.delivered, what="nothing is owed")
    assert quick.endpoint("special").counters().accepted == 0
    assert quick.endpoint("echo").counters().accepted == 1


def test_a_chord_whose_results_are_refused_for_a_while_fires_once(quick: Fleet, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    worker = faulty(quick, "refuse", full)
    header = [ryla_tasks.run_endpoint.s("echo", {"n": n}) for n in range(3)]
    result = chord(header, ryla_tasks.run_endpoint.s("lora", {"body": 1})).delay()
    eventually(lambda: worker.text.count("end.put_off") >= 3, what="all writes are refused")
    full.unlink()
    assert [one["data"]["n"] for one in result.get(timeout=40)["data"]["previous"]] == [0, 1, 2]
    assert quick.endpoint("lora").counters().accepted == 1
    assert quick.endpoint("echo").counters().accepted == 3


def test_a_failure_that_could_not_be_stored_is_stored_later_and_calls_its_errback(quick: Fleet, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    worker = faulty(quick, "refuse", full)
    errback = ryla_tasks.run_endpoint.si("lora", {"errback": 1}).set(task_id="errback-later")
    result = ryla_tasks.run_endpoint.s("echo", {"simulate": {"fail": "no"}}).apply_async(link_error=errback)
    eventually(lambda: "end.not_stored" in worker.text, what="the write is refused")
    full.unlink()
    with pytest.raises(JobFailed):
        result.get(timeout=30)
    assert AsyncResult("errback-later", app=ryla_tasks.app).get(timeout=30)["data"]["errback"] == 1
    assert quick.endpoint("lora").counters().accepted == 1


def test_redis_restarted_around_the_delivery_loses_nothing(quick: Fleet) -> None:
    """The worker may end itself when Redis goes away (Celery 5.7.0 does, with a message in hand): it is supervised."""
    worker = quick.worker("--concurrency", "4", **QUICK).wait_ready()
    quick.endpoint("echo").update(run_s=0.6)
    errback = ryla_tasks.run_endpoint.si("special", {"errback": 1})
    results = [ryla_tasks.run_endpoint.s("echo", {"n": n}).apply_async(link_error=errback) for n in range(5)]
    eventually(lambda: quick.endpoint("echo").counters().accepted == 5, what="all are submitted")
    eventually(lambda: quick.endpoint("echo").counters().ended.get("COMPLETED"), what="the first is done")
    quick.redis.kill()
    quick.redis.start()
    running = [worker]

    def told() -> bool:
        if not running[-1].alive():
            running.append(quick.worker("--concurrency", "4", **QUICK))
        return all(celery_s_word(quick, result.id) == "SUCCESS" for result in results)

    eventually(told, timeout=60, what="all are told")
    assert quick.endpoint("echo").counters().accepted == 5
    assert quick.endpoint("special").counters().accepted == 0
