"""ryla_tasks installed into a host's app: one app, one worker, the host's queues and ours."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery

import ryla_tasks
from ryla_tasks.celery_app import current_app
from ryla_tasks.errors import ConfigurationError
from ryla_tasks.tasks.routes import add_routes
from tests.support.fleet import Fleet, WorkerProcess, eventually

QUEUES = "host.default,host.special,ryla.jobs,ryla.polls,ryla.maintenance"


@pytest.fixture
def host_worker(fleet: Fleet) -> WorkerProcess:
    return fleet.worker("--concurrency", "4", "-Q", QUEUES, app="tests.support.host_project.installed").wait_ready()


def enqueue(fleet: Fleet, canvas: str, key: str) -> dict[str, Any]:
    """Run a canvas from a web process of the host's."""
    command = [sys.executable, "-m", "tests.support.host_project.web", canvas, key]
    done = subprocess.run(command, env=fleet.env(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_host_tasks_and_jobs_in_one_canvas_through_the_hosts_app(fleet: Fleet, host_worker: WorkerProcess) -> None:
    answer = enqueue(fleet, "chain", "whole")
    assert answer["same_app"]
    assert answer["value"]["pid"] == host_worker.pid
    (call,) = [json.loads(one) for one in fleet.client.lrange("host:whole", 0, -1)]
    assert call["args"][0]["seed"] == 3
    (remote,) = fleet.endpoint("echo").jobs()
    sent = fleet.endpoint("echo").job(remote.id).input
    assert sent is not None
    assert (sent["n"], sent["previous"]) == (1, {"words": "a boat"})

    answer = enqueue(fleet, "routed", "special")
    assert answer["value"]["noted"] == "special"

    answer = enqueue(fleet, "chord", "body")
    (call,) = [json.loads(one) for one in fleet.client.lrange("host:body", 0, -1)]
    assert [one["seed"] for one in call["args"][0]] == [0, 1, 2]

    job_ids = [record.job_id for record in ryla_tasks.list_jobs()]
    assert len(job_ids) == 6
    eventually(lambda: all(ryla_tasks.Job(one).record.delivered for one in job_ids), what="nothing is owed")


def test_a_host_without_a_redis_result_backend_is_told_so_at_once() -> None:
    with pytest.raises(ConfigurationError, match="result_backend: is 'rpc'") as caught:
        ryla_tasks.install(Celery("other", backend="rpc://", set_as_current=False))
    assert caught.value.setting == "result_backend"
    assert current_app() is ryla_tasks.app


def test_the_hosts_own_routes_come_before_ours() -> None:
    host = Celery("other", set_as_current=False)
    host.conf.task_routes = {"ryla.generate_image": {"queue": "host.images"}}
    add_routes(host)
    add_routes(host)
    assert host.amqp.router.route({}, "ryla.generate_image")["queue"].name == "host.images"
    assert host.amqp.router.route({}, "ryla.run_endpoint")["queue"].name == "ryla.jobs"
    assert host.amqp.router.route({}, "host.any")["queue"].name == "celery"


def test_a_job_task_of_an_app_without_ryla_tasks_says_what_to_call() -> None:
    host = Celery("other", set_as_current=False)

    @host.task(base=ryla_tasks.ServerlessTask, endpoint="echo", shared=False)
    def lonely() -> dict[str, Any]:
        return {"a": 1}

    with pytest.raises(ConfigurationError, match=r"'other'.*ryla_tasks\.install"):
        lonely.delay()
