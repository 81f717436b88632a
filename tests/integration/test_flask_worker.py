"""`flask ryla-worker` and `flask ryla`: processes that have the Flask app, and its settings."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from ryla_tasks import Job, run_endpoint
from tests.conftest import QUICK
from tests.support.fleet import Fleet, eventually
from tests.support.servers import Server

ANN = {"X-User": "ann"}
WISH = {"task": "generate_image", "template": "z-image-turbo", "prompt": "a lighthouse", "width": 64, "height": 64}


def test_signals_are_sent_where_they_say(fleet: Fleet, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    env = fleet.env(**QUICK, HEARD=str(notes))
    command = [sys.executable, "-m", "flask", "--app", "tests.support.flask_app:create_app", "ryla-worker"]
    worker = subprocess.Popen(
        [*command, "-c", "2", "--without-mingle"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        with Server("dev", env, tmp_path / "log") as server:
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("POST", "/ryla/jobs", json.dumps(WISH), {**ANN, "Content-Type": "application/json"})
            job = Job(json.loads(connection.getresponse().read())["id"])
            job.wait(40)

            def heard() -> list[dict[str, Any]]:
                lines = notes.read_text().splitlines() if notes.exists() else []
                return [json.loads(line) for line in lines]

            eventually(lambda: len(heard()) >= 2, what="both signals")
        name = "tests.support.flask_app"
        accepted, ended = heard()
        assert accepted == {
            "signal": "accepted", "app": name, "job": job.id, "user": "ann", "task": "generate_image",
        }  # fmt: skip
        assert ended == {"signal": "ended", "app": name, "job": job.id, "state": "completed", "context": name}
    finally:
        worker.terminate()
        assert worker.wait(40) == 0
        assert worker.stdout is not None
        worker.stdout.close()


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


def test_a_worker_that_is_killed_is_started_again_with_the_app(fleet: Fleet, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    command = [sys.executable, "-m", "flask", "--app", "tests.support.flask_app:create_app", "ryla-worker"]
    with (tmp_path / "log").open("w") as log:
        supervisor = subprocess.Popen(command, env=fleet.env(**QUICK, HEARD=str(notes)), stdout=log, stderr=log)
    try:
        said = (tmp_path / "log").read_text
        eventually(lambda: " ready." in said(), timeout=40, what="the worker is ready")
        (child,) = (one for one in psutil.Process(supervisor.pid).children() if "ryla-worker" in one.cmdline())
        child.kill()
        eventually(lambda: "SIGKILL; starting it again in 1 s" in said(), what="the supervisor noticed")
        job = Job(run_endpoint.delay("echo", {"n": 1}).id)
        job.wait(40)
        eventually(lambda: notes.exists() and job.id in notes.read_text(), what="the app heard")
    finally:
        supervisor.terminate()
        assert supervisor.wait(40) == 0
