"""One Redis and one simulator for all tests here, clean before each; worker processes as a test wants them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import ryla_tasks
from ryla_tasks.celery_defaults import celery_defaults
from ryla_tasks.settings import get_settings, reset_settings
from ryla_tasks.tasks import runtime
from tests.support.fleet import Fleet, WorkerProcess


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
