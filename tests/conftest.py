"""One Redis and one simulator for all tests that want them, clean before each; worker processes as wanted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import ryla_tasks
from ryla_tasks.celery_defaults import celery_defaults
from ryla_tasks.settings import get_settings, reset_settings
from ryla_tasks.tasks import runtime
from tests.support.fleet import ENDPOINTS, Fleet, WorkerProcess

if TYPE_CHECKING:
    from tests.support.django import Site

#: Endpoints that are polled and tried again as soon as the settings allow.
QUICK = {
    f"RYLA_ENDPOINT_{name.upper()}": json.dumps(
        {"endpoint_id": endpoint_id, "poll_min_s": 0.25, "poll_max_s": 1, "retry_backoff_s": 0.2, "max_retries": 3}
    )
    for name, (endpoint_id, _program) in ENDPOINTS.items()
} | {"RYLA_SWEEP_INTERVAL_S": "1"}


@pytest.fixture(scope="session")
def whole_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet, with this process pointed at it."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    patch = pytest.MonkeyPatch()
    for name, value in fleet.settings.items():
        patch.setenv(name, value)
    reset_settings()
    ryla_tasks.app.conf.update(celery_defaults(get_settings()))
    runtime.forget(ryla_tasks.app)
    yield fleet
    fleet.close()
    patch.undo()
    reset_settings()


@pytest.fixture
def fleet(whole_fleet: Fleet) -> Iterator[Fleet]:
    """A clean fleet without workers."""
    assert os.environ["RYLA_REDIS_URL"] == whole_fleet.redis.url
    reset_settings()
    whole_fleet.stop_workers()
    whole_fleet.reset()
    yield whole_fleet
    whole_fleet.stop_workers()


@pytest.fixture
def worker(fleet: Fleet) -> WorkerProcess:
    """One worker process with four slots, ready."""
    return fleet.worker("--concurrency", "4").wait_ready()


@pytest.fixture(scope="session")
def django_site(whole_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A Django project that uses the fleet, with its database."""
    from tests.support.django import Site

    return Site(whole_fleet, tmp_path_factory.mktemp("django"))


@pytest.fixture(scope="module")
def shared_worker(whole_fleet: Fleet) -> Iterator[WorkerProcess]:
    """One worker process for all tests of a module. Do not mix with `fleet` there: that one ends all workers."""
    whole_fleet.stop_workers()
    whole_fleet.reset()
    yield whole_fleet.worker("--concurrency", "4", **QUICK).wait_ready()
    whole_fleet.stop_workers()


@pytest.fixture
def served(whole_fleet: Fleet, shared_worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """The fleet with the module's worker; jobs of earlier tests are forgotten, and remote jobs are quick."""
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    fresh_settings()
    whole_fleet.reset(run_s=0.2, queue_delay_s=0.0)
    yield whole_fleet
    assert shared_worker.alive(), shared_worker.text[-3000:]
    monkeypatch.undo()
    fresh_settings()


def fresh_settings() -> None:
    """Have this process read the environment anew."""
    reset_settings()
    runtime.forget(ryla_tasks.app)
