"""What `manage.py check` says, and the other commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ryla_tasks import run_endpoint
from tests.support.django import Calls, Site
from tests.support.fleet import Fleet, eventually
from tests.support.pages import ROOT

AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
TASKS = {"TASKS": ["generate_image"]}


@pytest.fixture(scope="module")
def process(django_site: Site) -> Iterator[Calls]:
    with Calls(django_site) as calls:
        yield calls


def test_a_project_that_is_right_hears_nothing(process: Calls) -> None:
    assert process("check") == []
    assert process("check", RYLA_WEB=TASKS) == []


@pytest.mark.parametrize(
    ("changes", "number", "words"),
    [
        ({"RYLA": {"REDIS_ULR": "redis://h/0"}}, "ryla.E001", "did you mean REDIS_URL?"),
        ({"RYLA": {"SWEEP_INTERVAL_S": 60}}, "ryla.E001", "RYLA_SWEEP_INTERVAL_S (Django's settings.RYLA)"),
        ({"RYLA_WEB": {"VISITR": "x.y"}}, "ryla.E002", "RYLA_WEB['VISITR']: is no setting; did you mean VISITOR?"),
        ({"RYLA_WEB": {"VISITOR": "nowhere.who"}}, "ryla.E002", "cannot be imported: No module named 'nowhere'"),
        ({"RYLA_WEB": {"VISITOR": 7}}, "ryla.E002", "must be a dotted path"),
        ({"RYLA_WEB": {"PREPARE": "ryla_tasks.errors.__all__"}}, "ryla.E002", "is no function"),
        ({"RYLA_WEB": {"CELERY": "ryla_tasks.Job"}}, "ryla.E002", "is no Celery app"),
        ({"RYLA_WEB": {"TASKS": ["run_endpoint"]}}, "ryla.E002", "'run_endpoint' is none of generate_image"),
        ({"RYLA_WEB": {"MOST_BODY": "10MB"}}, "ryla.E002", "must be a number of bytes"),
        ({"RYLA_WEB": {"LORAS": "mine.safetensors"}}, "ryla.E002", "must be a list of names"),
        ({"RYLA_WEB": []}, "ryla.E002", "RYLA_WEB: must be a dict, not list"),
        ({"RYLA_WEB": {"CELERY": "tests.support.django_site.broken.with_orm"}}, "ryla.E003", "is 'django-db'"),
        ({"RYLA_WEB": {"CELERY": "tests.support.django_site.broken.without"}}, "ryla.E003", "has no result backend"),
        ({"MIDDLEWARE": [CSRF]}, "ryla.W001", "everybody is a stranger"),
        ({"MIDDLEWARE": [AUTH]}, "ryla.W002", "CsrfViewMiddleware is not in MIDDLEWARE"),
    ],
)
def test_what_is_wrong_is_told(process: Calls, changes: dict[str, Any], number: str, words: str) -> None:
    found = process("check", **changes)
    assert [one[0] for one in found] == [number], found
    assert words in found[0][1]


def test_addresses_that_lead_elsewhere(process: Calls) -> None:
    secret = {"WEBHOOK_SECRET": "x" * 40}
    right = {"WEBHOOK_URL": "https://s.example/ryla/webhooks/", "ARTIFACTS_URL": "https://s.example/ryla/shared"}
    assert process("check", RYLA={**secret, **right}) == []
    wrong = {"WEBHOOK_URL": "https://s.example/hooks", "ARTIFACTS_URL": "http://s.example/ryla/uploads"}
    found = process("check", RYLA={**secret, **wrong})
    assert [one[0] for one in found] == ["ryla.W003", "ryla.W004"]
    assert "include(" in found[0][2]


def test_what_is_only_for_a_laptop(process: Calls) -> None:
    settings = {
        "WEBHOOK_SECRET": "x" * 40, "WEBHOOK_URL": "http://s.example/ryla/webhooks", "SHOW_ARGUMENTS": True,
    }  # fmt: skip
    assert process("check", RYLA=settings) == []
    found = process("check", deploy=True, RYLA=settings)
    assert [one[0] for one in found] == ["ryla.W101", "ryla.W102", "ryla.W103"]
    assert "simulated RunPod" in found[0][1]


def test_a_worker_with_wrong_settings_does_not_start(django_site: Site) -> None:
    said = django_site.manage("ryla_worker", check=False, RYLA_SWEEP_INTERVAL_S="60")
    assert "The worker does not start" in said
    assert "RYLA_SWEEP_INTERVAL_S" in said


def test_there_is_nothing_to_migrate_and_nothing_to_dump(process: Calls) -> None:
    assert "No changes detected" in process("manage", words=["makemigrations", "--check", "--dry-run"])
    dumped = process("manage", words=["dumpdata", "--all", "--exclude", "sessions"])
    assert '"model": "auth.user"' in dumped


def test_ryla_with_the_projects_settings(django_site: Site, fleet: Fleet) -> None:
    job = run_endpoint.delay("echo", {"n": 1}, user_id="1").id
    assert job in django_site.manage("ryla", "list", "--json")
    help_ = " ".join(django_site.manage("ryla", "worker", "--help").split())
    assert "Usage: manage.py ryla worker" in help_
    assert "default: ryla_tasks.contrib.django.worker_app" in help_


@pytest.mark.load
def test_a_worker_is_started_again_by_a_change(django_site: Site, fleet: Fleet, tmp_path: Path) -> None:
    mine, log = tmp_path / "mine.py", tmp_path / "log"
    mine.write_text("def who(request): ...")
    env = {"SITE_WEB": '{"VISITOR": "mine.who"}', "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "django", "ryla_worker", "--autoreload", "--name", "mine@test"]
    with log.open("wb") as out:
        started = subprocess.Popen(
            command, env=fleet.env(**django_site.env, **env), stdout=out, stderr=subprocess.STDOUT
        )  # fmt: skip
    try:
        eventually(lambda: "mine@test ready" in log.read_text(), timeout=60, what="it is ready")
        mine.write_text("def who(request): return None")
        eventually(lambda: log.read_text().count("mine@test ready") == 2, timeout=60, what="it is ready again")
        job = run_endpoint.delay("echo", {"n": 1})
        assert job.get(timeout=30)
    finally:
        started.terminate()
        started.wait(40)
    # Each time it was let finish what it had under way.
    assert log.read_text().count("Warm shutdown") == 2
