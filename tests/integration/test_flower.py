"""Flower: one row a job, no poll noise, nothing of prompts or URLs unless asked for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests

import ryla_tasks
from ryla_tasks.settings import reset_settings
from ryla_tasks.tasks import runtime
from tests.support.fleet import Fleet, eventually
from tests.support.pictures import picture


@pytest.fixture
def flower(fleet: Fleet) -> Iterator[str]:
    """The address of a Flower that listens to the fleet, with its API open, and a worker beside it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = fleet.env(FLOWER_UNAUTHENTICATED_API="true")
    command = [
        sys.executable, "-m", "celery", "-A", "ryla_tasks", "flower", "--address=127.0.0.1", f"--port={port}",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        fleet.worker("--concurrency", "4", "-E").wait_ready()
        eventually(lambda: answers(f"{url}/healthcheck"), timeout=30, what="Flower")
        eventually(
            lambda: requests.get(f"{url}/api/workers?refresh=1", timeout=5).json(), what="Flower sees the worker"
        )
        yield url
    finally:
        process.terminate()
        process.wait(10)


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
