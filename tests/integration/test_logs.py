"""The logs of real workers: each line in the format that the settings name, and a job's ids on each of its lines."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

import ryla_tasks
from ryla_tasks import Job
from tests.support.fleet import Fleet, WorkerProcess, eventually

SECRET_URL = "https://bucket.example/in.png?X-Amz-Signature=topsecret"


def lines(worker: WorkerProcess) -> list[dict[str, Any]]:
    """What a worker has said; Celery's word at its end is on standard output, and no line of the log."""
    said = [line for line in worker.text.splitlines() if line.strip()]
    return [json.loads(line) for line in said if not line.startswith("worker: ")]


@pytest.mark.parametrize("supervised", [False, True])
def test_every_line_is_json_and_a_jobs_lines_have_its_ids(fleet: Fleet, supervised: bool) -> None:
    worker = fleet.worker(supervised=supervised, RYLA_LOG_FORMAT="json").wait_ready()
    good = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a topsecret prompt", user_id="u-1")
    bad = ryla_tasks.run_endpoint.delay(
        "echo", {"url": SECRET_URL, "simulate": {"fail": "topsecret failure"}}, user_id="u 2\nforged", max_retries=0
    )
    good.get(timeout=30)
    assert bad.get(timeout=30, propagate=False)
    eventually(lambda: worker.text.count('"job.') >= 2, what="both ends in the log")
    found = lines(worker)
    assert "topsecret" not in worker.text
    mine = {line["event"]: line for line in found if line.get("job") == good.id and "event" in line}
    assert set(mine) == {"submit.accepted", "job.completed"}
    record = Job.get(good.id).record
    for line in mine.values():
        assert (line["user"], line["endpoint"], line["attempt"]) == ("u-1", "image", 1)
        assert (line["target"], line["remote"]) == (record.target, record.remote_id)
    (end,) = [line for line in found if line.get("job") == bad.id and line.get("event", "").startswith("job.")]
    assert end["user"] == "u 2\nforged"
    # Celery's own lines about it.
    tasks = [line for line in found if line.get("job") == good.id and "event" not in line]
    assert {line["task"] for line in tasks} == {"ryla.generate_image"}
    worker.signal(signal.SIGTERM)
    assert worker.stop() == 0
    assert lines(worker)


def test_on_a_console_a_user_cannot_write_a_line(fleet: Fleet) -> None:
    worker = fleet.worker().wait_ready()
    result = ryla_tasks.run_endpoint.delay("echo", {"n": 1}, user_id="u\n2026-01-01 ERROR forged: line")
    result.get(timeout=30)
    eventually(lambda: "job.completed" in worker.text)
    said = worker.text.splitlines()
    assert not any(line.startswith("2026-01-01") for line in said)
    (line,) = [line for line in said if "job.completed" in line]
    assert 'user="u\\n2026-01-01 ERROR forged: line"' in line


HOST = "tests.support.host_project.installed"


def test_a_host_app_logs_as_it_does_unless_it_asks(fleet: Fleet) -> None:
    """Celery's default format begins with a bracket; with the setting it is ours."""
    default = fleet.worker(app=HOST).wait_ready()
    asks = fleet.worker(app=HOST, RYLA_LOG_FORMAT="json").wait_ready()
    assert any(line.startswith("[20") and line.endswith(" ready.") for line in default.text.splitlines())
    assert any(line["message"].endswith(" ready.") for line in lines(asks))
