"""The entry of a worker process: the package's configuration, refined by the deployment's."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery.app.defaults import DEFAULTS

from ryla_tasks.celery_defaults import celery_defaults
from ryla_tasks.cli.worker import worker_arguments
from ryla_tasks.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def decided() -> dict[str, Any]:
    """What celeryconfig.py says."""
    names = runpy.run_path(str(ROOT / "celeryconfig.py"))
    return {name: value for name, value in names.items() if not name.startswith("__")}


def test_celery_knows_every_name_and_the_package_does_not_say_the_same(
    decided: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("RYLA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RYLA_ENV_FILE", "")
    package = celery_defaults(Settings())
    assert decided
    assert decided.keys() <= DEFAULTS.keys()
    assert [name for name, value in decided.items() if package.get(name) == value] == []


def test_the_app_has_the_decisions_over_the_packages_configuration(decided: dict[str, Any]) -> None:
    names = [*decided, "broker_url", "worker_concurrency", "worker_pool", "task_acks_late"]
    code = (
        "import json, sys; from workers.celery_worker import app\n"
        "print(json.dumps([{name: app.conf[name] for name in json.loads(sys.argv[1])}, sorted(app.tasks)]))"
    )
    settings = {"RYLA_ENV_FILE": "", "RYLA_REDIS_URL": "redis://127.0.0.1:1/7", "RYLA_WORKER_CONCURRENCY": "9"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("RYLA_")}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(names)],
        cwd=ROOT, env={**env, **settings}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    conf, tasks = json.loads(done.stdout)
    assert {name: conf[name] for name in decided} == json.loads(json.dumps(decided))
    assert (conf["broker_url"], conf["worker_concurrency"]) == ("redis://127.0.0.1:1/7", 9)
    assert (conf["worker_pool"], conf["task_acks_late"]) == ("threads", True)
    assert {"ryla.generate_image", "ryla.run_endpoint"} <= set(tasks)


def test_the_command_line_of_a_worker_is_one_that_celery_takes() -> None:
    from celery.bin.worker import worker

    arguments = worker_arguments(4, "INFO", name="x@%h")
    known = {option for parameter in worker.params for option in parameter.opts}
    assert {word.split("=")[0] for word in arguments[1:]} <= known
    assert "--without-mingle" not in arguments
