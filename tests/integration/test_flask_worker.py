"""`flask ryla-worker` and `flask ryla`: processes that have the Flask app, and its settings."""

from __future__ import annotations

import gc
import http.client
import json
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from flask import Flask, current_app

from ryla_tasks import Job, run_endpoint, signals
from ryla_tasks.contrib.flask import Ryla, job_ended
from tests.conftest import QUICK
from tests.support.flask_app import create_app
from tests.support.fleet import Fleet, eventually
from tests.support.servers import Server

ANN = {"X-User": "ann"}
WISH = {"task": "generate_image", "template": "z-image-turbo", "prompt": "a lighthouse", "width": 64, "height": 64}


def test_signals_are_sent_where_they_say_also_by_a_worker_that_was_started_again(fleet: Fleet, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    env = fleet.env(**QUICK, HEARD=str(notes))
    command = [sys.executable, "-m", "flask", "--app", "tests.support.flask_app:create_app", "ryla-worker"]
    with (tmp_path / "log").open("w") as log:
        supervisor = subprocess.Popen([*command, "-c", "2", "--without-mingle"], env=env, stdout=log, stderr=log)
    said = (tmp_path / "log").read_text

    def heard() -> list[dict[str, Any]]:
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    try:
        eventually(lambda: " ready." in said(), timeout=40, what="the worker is ready")
        (child,) = (one for one in psutil.Process(supervisor.pid).children() if "ryla-worker" in one.cmdline())
        child.kill()
        eventually(lambda: "SIGKILL; starting it again in 1 s" in said(), what="the supervisor noticed")
        with Server("dev", env, tmp_path / "web.log") as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("POST", "/ryla/jobs", json.dumps(WISH), {**ANN, "Content-Type": "application/json"})
            job = Job(json.loads(connection.getresponse().read())["id"])
            job.wait(40)
            eventually(lambda: len(heard()) >= 2, what="both signals")
    finally:
        supervisor.terminate()
        assert supervisor.wait(40) == 0
    name = "tests.support.flask_app"
    assert heard() == [
        {"signal": "accepted", "app": name, "job": job.id, "user": "ann", "task": "generate_image"},
        {"signal": "ended", "app": name, "job": job.id, "state": "completed", "context": name},
    ]


def test_the_commands_know_the_apps_settings(fleet: Fleet) -> None:
    job = run_endpoint.apply_async(("echo", {"n": 1}), countdown=600)
    env = {name: value for name, value in fleet.env().items() if name != "RYLA_REDIS_URL"}
    env["TESTAPP_RYLA"] = json.dumps({"REDIS_URL": fleet.redis.url})
    flask = [sys.executable, "-m", "flask", "--app", "tests.support.flask_app:create_app"]
    done = subprocess.run([*flask, "ryla", "show", job.id, "--json"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["job_id"] == job.id
    missing = subprocess.run([*flask, "ryla", "show", "nonsense"], env=env, capture_output=True, text=True)
    assert missing.returncode == 4
    wrong = {**env, "TESTAPP_RYLA": json.dumps({"REDIS_ULR": "x"})}
    said = subprocess.run([*flask, "ryla", "list"], env=wrong, capture_output=True, text=True).stderr
    assert "Flask's app.config['RYLA']" in said
    assert "did you mean REDIS_URL?" in said


def test_a_receiver_that_fails_stops_no_other_and_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    app, heard = create_app(), []

    def broken(_app: Flask, **_: Any) -> None:
        raise OSError("the database is away")

    def note(_app: Flask, *, job: Any, **_: Any) -> None:
        heard.append((job.id, current_app.name))

    for receiver in (broken, note):
        job_ended.connect(receiver, app)
    job, record = SimpleNamespace(id="a-job"), SimpleNamespace(state="completed")
    bridge = app.extensions["ryla_bridge"]
    with pytest.raises(OSError, match="the database is away"):
        bridge.pass_on(job=job, record=record)
    assert heard == [("a-job", app.name)]
    assert "A receiver of job_ended failed for job a-job" in caplog.text


def short_lived() -> Flask:
    app = Flask("short-lived")
    Ryla(app)
    return app


def test_an_app_that_is_gone_hears_nothing() -> None:
    gone = weakref.ref(short_lived())
    gc.collect()
    assert gone() is None
    signals.job_ended.send(sender=None, job=SimpleNamespace(id="a-job"), record=SimpleNamespace(state="completed"))
