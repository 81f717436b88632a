"""Flower: one row a job, no poll noise, nothing of prompts or URLs unless asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import Celery

import ryla_tasks
from ryla_tasks.celery_defaults import celery_defaults
from ryla_tasks.embedded.ports import free_port
from ryla_tasks.flower import rows as rows_of_flower
from ryla_tasks.settings import Settings, reset_settings
from ryla_tasks.tasks import runtime
from tests.support.browser import launched
from tests.support.fleet import Fleet, eventually
from tests.support.pictures import picture

CONFIG = Path(__file__).parents[2] / "deploy/flower/flowerconfig.py"
LOGIN = ("operator", "correct horse")


@contextmanager
def running_flower(fleet: Fleet, *options: str, **env: str) -> Iterator[str]:
    """The address of a Flower that listens to the fleet."""
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "ryla_tasks", "flower", f"--port={port}", *options]
    log = fleet.folder / "flower.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=fleet.env(**env), stdout=out, stderr=out, cwd=fleet.folder)
    url = f"http://127.0.0.1:{port}"
    prefix = f"/{env['FLOWER_URL_PREFIX']}" if "FLOWER_URL_PREFIX" in env else ""
    try:
        eventually(lambda: answers(f"{url}{prefix}/healthcheck"), timeout=30, what=f"Flower, see {log}")
        yield url + prefix
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def flower(fleet: Fleet) -> Iterator[str]:
    """A Flower with its API open, and a worker beside it."""
    with running_flower(fleet, "--address=127.0.0.1", FLOWER_UNAUTHENTICATED_API="true") as url:
        fleet.worker("--concurrency", "4", "-E").wait_ready()
        sees_a_worker(url)
        yield url


def sees_a_worker(url: str, auth: tuple[str, str] | None = None) -> None:
    def seen() -> bool:
        return bool(requests.get(f"{url}/api/workers?refresh=1", auth=auth, timeout=5).json())

    eventually(seen, what="Flower sees the worker")


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def rows(url: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{url}/api/tasks", timeout=5).json()
    return found


def succeeded(url: str, *ids: str) -> bool:
    found = rows(url)
    return all(found.get(one, {}).get("state") == "SUCCESS" for one in ids)


def test_one_row_a_job_and_nothing_secret_in_it(fleet: Fleet, flower: str) -> None:
    secret_url = "https://bucket.example/in.png?X-Amz-Signature=topsecret"
    image = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a topsecret prompt")
    other = ryla_tasks.run_endpoint.delay("echo", {"url": secret_url, "simulate": {"seconds": 2}})
    sheet = ryla_tasks.make_character_sheet.delay(
        image=picture(), angles=["front", "back"], prompt="a topsecret prompt", width=64, height=64
    )
    jobs = (image, other, sheet)
    for one in jobs:
        one.get(timeout=30)
    ids = {one.id for one in jobs}
    eventually(lambda: succeeded(flower, *ids), what="all jobs in Flower")
    assert set(rows(flower)) == ids
    page = requests.get(f"{flower}/api/tasks", timeout=5).text
    for one in ids:
        page += requests.get(f"{flower}/task/{one}", timeout=5).text
    assert "topsecret" not in page
    assert "z-image-turbo" in page


def test_arguments_are_shown_if_asked_for(fleet: Fleet, flower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_SHOW_ARGUMENTS", "1")
    reset_settings()
    runtime.forget(ryla_tasks.app)
    assert os.environ["RYLA_SHOW_ARGUMENTS"]
    result = ryla_tasks.run_endpoint.delay("echo", {"prompt": "a lighthouse"})
    result.get(timeout=30)
    eventually(lambda: succeeded(flower, result.id))
    assert "a lighthouse" in str(rows(flower)[result.id])
    monkeypatch.undo()
    reset_settings()
    runtime.forget(ryla_tasks.app)


# --- with the configuration of deploy/flower ---


def table(url: str) -> dict[str, dict[str, Any]]:
    """The rows of the page of tasks, as its table asks for them."""
    columns = {"draw": 1, "start": 0, "length": 50, "order[0][column]": 0, "order[0][dir]": "desc"}
    asked = {**columns, "columns[0][data]": "received", "search[value]": ""}
    answer = requests.get(f"{url}/tasks/datatable", params=asked, auth=LOGIN, timeout=10)
    assert answer.status_code == 200, answer.text
    return {row["uuid"]: row for row in answer.json()["data"]}


def row_is(url: str, job_id: str, **wanted: str) -> None:
    """Wait until a job's row holds these texts."""

    def fits() -> bool:
        row = table(url).get(job_id, {})
        return all(text in str(row.get(name)) for name, text in wanted.items())

    eventually(fits, what=f"{job_id} has {wanted}")


def test_rows_show_how_the_jobs_stand_to_those_who_may_see_them(fleet: Fleet, tmp_path: Path) -> None:
    fleet.endpoint("image").update(run_s=60, steps=60)
    env = {"FLOWER_BASIC_AUTH": ":".join(LOGIN), "FLOWER_URL_PREFIX": "flower", "FLOWER_ADDRESS": "0.0.0.0"}
    with running_flower(fleet, f"--conf={CONFIG}", FLOWER_DB=str(tmp_path / "db"), **env) as url:
        for path in ("/", "/tasks", "/tasks/datatable", "/workers", "/broker", "/api/tasks", "/api/workers"):
            assert requests.get(url + path, timeout=5).status_code == 401, path
            assert requests.get(url + path, auth=(LOGIN[0], "wrong"), timeout=5).status_code == 401, path
        assert requests.get(f"{url}/tasks", auth=LOGIN, timeout=5).status_code == 200
        fleet.worker("--concurrency", "4", "-E").wait_ready()
        sees_a_worker(url, LOGIN)
        done = ryla_tasks.run_endpoint.delay("echo", {"prompt": "topsecret", "simulate": {"seconds": 1}})
        failed = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"fail": "no"}})
        image = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="topsecret", width=64, height=64)
        row_is(url, image.id, result="%  Working on it: step", kwargs="image  z-image-turbo")
        row_is(url, failed.id, state="FAILURE", result="failed")
        row_is(url, done.id, state="SUCCESS", result="completed", kwargs="special @ echo  echo")
        seen = table(url)
        assert set(seen) == {done.id, failed.id, image.id}
        record = ryla_tasks.Job(done.id).record
        assert seen[done.id]["runtime"] == pytest.approx(record.ended - record.created, abs=0.01)
        assert "topsecret" not in str(seen)
        look_at(f"{url}/tasks", image.id, "z-image-turbo", folder=tmp_path)
        # Where a record is gone the row is Celery's own.
        fleet.client.delete(*fleet.client.scan_iter("ryla:job:*"))
        eventually(lambda: "running" not in str(table(url)[image.id]["result"]), what="no record is left")


def look_at(url: str, *texts: str, folder: Path) -> None:
    """Open a page in a browser, and wait for these texts."""
    with launched() as browser:
        page = browser.new_page(http_credentials={"username": LOGIN[0], "password": LOGIN[1]})
        page.set_viewport_size({"width": 1600, "height": 700})
        page.goto(url)
        for text in texts:
            page.get_by_text(text).first.wait_for(timeout=15_000)
        page.screenshot(path=folder / "flower.png")


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"FLOWER_ADDRESS": "0.0.0.0"}, "there is no login"),
        ({"FLOWER_BASIC_AUTH": "operator"}, "must be user:password"),
        ({"FLOWER_AUTH": "me@example.org"}, "FLOWER_AUTH_PROVIDER: must be set"),
    ],
)
def test_it_does_not_start_open(whole_fleet: Fleet, env: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "ryla_tasks", "flower", f"--conf={CONFIG}", "--port=0"]
    ended = subprocess.run(command, env=whole_fleet.env(**env), capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_redis_rows_are_those_of_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks for a hundred rows: the first one that fails is the last one that is asked for, for a while."""
    monkeypatch.setenv("RYLA_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("RYLA_REDIS_TIMEOUT_S", "0.5")
    host = Celery("away", set_as_current=False)
    host.config_from_object(celery_defaults(Settings()))
    asked = []
    looks = rows_of_flower._Looks()
    monkeypatch.setattr(rows_of_flower, "current_app", lambda: asked.append(1) or host)
    assert [looks.at(f"job-{number}") for number in range(100)] == [None] * 100
    assert len(asked) == 1
