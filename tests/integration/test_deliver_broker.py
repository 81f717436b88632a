"""Broker and store on servers of their own, each cut in turn: an accepted job runs, and nobody hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.embedded import RedisServer
from ryla_tasks.errors import EnqueueUnknown, StoreUnavailable
from ryla_tasks.jobs.states import State
from tests.conftest import QUICK
from tests.support.fleet import Fleet, WorkerProcess, eventually


class Split(Fleet):
    """A fleet whose Celery messages go through another Redis than its jobs and results."""

    def __init__(self, folder: Path) -> None:
        self.broker = RedisServer()
        self.broker.start()
        super().__init__(folder)

    @property
    def settings(self) -> dict[str, str]:
        return {**super().settings, **QUICK, "RYLA_BROKER_URL": self.broker.url}

    def enqueue(self, task_id: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.support.enqueue_one", task_id]
        done = subprocess.run(command, env=self.env(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def start_worker(self) -> WorkerProcess:
        return self.worker("--concurrency", "4").wait_ready()

    def close(self) -> None:
        super().close()
        self.broker.close()


@pytest.fixture
def split(tmp_path: Path) -> Iterator[Split]:
    fleet = Split(tmp_path)
    fleet.reset(run_s=0.2, queue_delay_s=0.0)
    yield fleet
    fleet.close()


def result_of(fleet: Split, task_id: str) -> dict[str, Any] | None:
    value = fleet.client.get(f"celery-task-meta-{task_id}")
    meta: dict[str, Any] = json.loads(value) if value else {}
    return meta if meta.get("status") == "SUCCESS" else None


def test_with_the_broker_cut_the_enqueue_returns_and_the_sweeper_sends_the_job(split: Split) -> None:
    split.broker.stop()
    answer = split.enqueue("cut-1")
    assert answer["id"] == "cut-1"
    assert answer["seconds"] < 6
    split.broker.start()
    split.start_worker()
    assert eventually(lambda: result_of(split, "cut-1"), timeout=30)["result"]["job_id"] == "cut-1"
    assert split.endpoint("echo").counters().accepted == 1


def test_with_the_store_away_the_enqueue_fails_soon_and_nothing_is_sent(split: Split) -> None:
    split.redis.stop()
    answer = split.enqueue("away-1")
    assert answer["error"] == "StoreUnavailable"
    assert answer["seconds"] < 6
    split.redis.start()
    assert not split.client.exists("ryla:job:away-1")


def test_a_job_by_name_waits_at_the_broker_while_the_store_is_away(split: Split) -> None:
    worker = split.start_worker()
    split.redis.stop()
    with Celery("bare", broker=split.broker.url, set_as_current=False) as bare:
        wish = {"endpoint": "echo", "input": {"n": 1}}
        bare.send_task("ryla.run_endpoint", kwargs=wish, task_id="by-name", queue="ryla.jobs")
    eventually(lambda: "by-name" in worker.text, what="the worker has the message")
    split.redis.start()
    assert eventually(lambda: result_of(split, "by-name"), timeout=30)["result"]["data"]["n"] == 1
    assert split.endpoint("echo").counters().accepted == 1


def test_a_lost_answer_of_the_store_is_said_and_repeating_with_the_id_is_safe(served: Fleet) -> None:
    ryla_tasks.run_endpoint.delay("echo", {"n": 1}).get(timeout=30)
    pid = served.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises((EnqueueUnknown, StoreUnavailable)) as caught:
            ryla_tasks.run_endpoint.delay("echo", {"n": 2})
        assert time.monotonic() - began < 30
    finally:
        os.kill(pid, signal.SIGCONT)
    if isinstance(caught.value, EnqueueUnknown):
        job_id = caught.value.job_id
        assert job_id in str(caught.value)
    else:
        # The pool wanted a new connection, and got none: nothing was sent, and it says so.
        assert not caught.value.sent
        job_id = "sent-later"
    result = ryla_tasks.run_endpoint.apply_async(("echo", {"n": 2}), task_id=job_id)
    assert result.get(timeout=30)["data"]["n"] == 2
    assert Job(job_id).status is State.COMPLETED
    assert served.endpoint("echo").counters().accepted == 2
