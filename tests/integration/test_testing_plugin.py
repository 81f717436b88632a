"""The pytest plugin as a project has it: the examples of docs/testing.md in a fresh folder, and what it must not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import ROOT, examples, run_tests, written


def test_the_examples_of_the_page(tmp_path: Path) -> None:
    plain = {name: text for name, text in examples("testing").items() if "/" not in name}
    assert len(plain) == 3
    assert "6 passed" in run_tests(written(tmp_path, plain))


def test_an_app_of_ones_own(tmp_path: Path) -> None:
    own = {name.partition("/")[2]: text for name, text in examples("testing").items() if name.startswith("own_app/")}
    assert "1 passed" in run_tests(written(tmp_path, own))


def test_settings_are_as_before_and_secrets_stay_out(tmp_path: Path) -> None:
    files = {
        "test_leaks.py": """
import celery, logging, os
import ryla_tasks
from ryla_tasks.settings import configure, get_settings

configure(key_prefix="mine")
before = (get_settings(), dict(ryla_tasks.app.conf), os.environ.copy())

def test_inside(ryla_worker, ryla_settings):
    settings = get_settings()
    assert settings.key_prefix == "mine"
    assert settings.runpod_api_key.get_secret_value() == "simulated-key"
    assert settings.accounts["backup"] == settings.runpod_api_key and settings.webhook_url is None
    assert "real.example" not in str(settings.model_dump()) + str(dict(ryla_tasks.app.conf))
    assert settings.endpoints["upscale"].kind == "image"
    assert settings.endpoints["upscale"].execution_timeout_s == 77
    ryla_worker.answer_next({"a": 1}, endpoint="upscale")
    assert ryla_tasks.run_endpoint.delay("upscale", {"prompt": "a"}).get(timeout=30)["endpoint"] == "upscale"

def test_again(ryla_eager):
    ryla_eager.answer_next({"a": 1}, endpoint="special")
    assert ryla_tasks.run_endpoint.delay("special", {"prompt": "a"}).get()["data"] == {"a": 1}

def test_outside():
    assert get_settings() is before[0]
    kept = {name: os.environ.get(name) for name in before[2] if name != "PYTEST_CURRENT_TEST"}
    assert kept.items() <= before[2].items()
    now = dict(ryla_tasks.app.conf)
    assert {k: v for k, v in now.items() if before[1].get(k) != v and not k.startswith("task_queues")} == {}
    assert not ryla_tasks.app.conf.task_always_eager
    assert celery.current_app is not ryla_tasks.app
    assert not [one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler]
"""
    }
    env = {
        "RYLA_REDIS_URL": "redis://real.example/0",
        "RUNPOD_API_KEY": "rpa_REAL.real.example",
        "RYLA_ACCOUNT_BACKUP": "rpa_REAL.real.example",
        "RYLA_WEBHOOK_URL": "https://real.example/hook",
        "RYLA_WEBHOOK_SECRET": "x" * 40,
        "RYLA_ENDPOINT_UPSCALE": '{"endpoint_id": "real", "kind": "image", "execution_timeout_s": 77}',
    }
    assert "3 passed" in run_tests(written(tmp_path, files), **env)


def test_a_django_project(tmp_path: Path) -> None:
    files = {
        "conftest.py": """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
django.setup()
""",
        "site_settings.py": """
SECRET_KEY = "x"
INSTALLED_APPS = []
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = "redis://real.example/0"
RYLA = {"REDIS_URL": "redis://real.example/0", "ENDPOINT_IMAGE": "real", "SHOW_ARGUMENTS": True}
""",
        "site_celery.py": """
import ryla_tasks
from celery import Celery
app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")
ryla_tasks.install(app)
""",
        "test_site.py": """
import ryla_tasks, site_celery
from ryla_tasks.settings import get_settings

def test_a_job(ryla_worker):
    assert get_settings().show_arguments
    result = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a hut", width=64, height=64)
    assert result.app is site_celery.app
    assert result.get(timeout=30)["artifacts"]

def test_after_it():
    assert get_settings().redis_url == "redis://real.example/0"
    assert site_celery.app.conf.result_backend == "redis://real.example/0"
""",
    }
    assert "2 passed" in run_tests(written(tmp_path, files))


def test_projects_that_do_not_use_it_load_nothing_of_it(tmp_path: Path) -> None:
    files = {
        "test_other.py": """
import sys

def test_nothing_is_loaded():
    heavy = {"celery", "redis", "pydantic", "aiohttp", "PIL", "requests"}
    assert not heavy & set(sys.modules)
"""
    }
    assert "1 passed" in run_tests(written(tmp_path, files))


@pytest.mark.parametrize("name", ["ryla_tasks.testing.plugin"])
def test_the_plugin_is_an_entry_point_under_its_own_name(name: str) -> None:
    """Else pytest would refuse it where a project also names it with -p."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {name: name}
