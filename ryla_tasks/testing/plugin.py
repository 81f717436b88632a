"""The pytest plugin: fixtures that run an app's jobs on a simulated RunPod.

pytest imports this module in every project that has ryla_tasks installed. So it imports nothing but pytest: what a
fixture needs is loaded when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from celery import Celery

    from ryla_tasks.testing.isolation import Isolation
    from ryla_tasks.testing.simulator import JobSimulator

__all__ = ["ryla_app", "ryla_eager", "ryla_queues", "ryla_redis_url", "ryla_settings", "ryla_simulator", "ryla_worker"]


@pytest.fixture
def ryla_app() -> Celery:
    """The Celery app that jobs go through: the one that called `ryla_tasks.install`, else that of the package.

    An app that is made later, in a factory or a module that nothing has imported yet, is not known here: override the
    fixture so that it imports or makes it.
    """
    from ryla_tasks.celery_app import current_app

    return current_app()


@pytest.fixture
def ryla_settings(ryla_app: Celery, tmp_path: Path) -> Iterator[Isolation]:
    """The settings of ryla_tasks for this test: the project's own, but for whatever leads out of this machine.

    Redis, RunPod, its key and the artifacts are places of the test's; the environment, `.env` and Django's settings
    say the rest. `ryla_settings.set(show_arguments=True)` changes some. All is as before after the test.
    """
    from ryla_tasks.testing.isolation import Isolation

    with Isolation(ryla_app, tmp_path / "ryla-artifacts") as isolation:
        yield isolation


@pytest.fixture
def ryla_simulator(ryla_settings: Isolation) -> Iterator[JobSimulator]:
    """A simulated RunPod with all endpoints of the settings, besides `image`, `lora` and `special`; warm and quick."""
    from ryla_tasks.testing.simulator import JobSimulator

    with JobSimulator(ryla_settings.endpoint_kinds) as simulator:
        ryla_settings.point_at(simulator)
        yield simulator


@pytest.fixture
def ryla_eager(ryla_app: Celery, ryla_simulator: JobSimulator) -> JobSimulator:
    """Eager mode: `.delay()` returns when the job has ended. Without Redis and without a worker; `Job` and `list_jobs`
    know nothing of such jobs. It is the simulator."""
    # Taken back with the rest of the app's configuration.
    ryla_app.conf.task_always_eager = True
    return ryla_simulator


@pytest.fixture(scope="session")
def ryla_redis_url() -> Iterator[str]:
    """A Redis of the test session's own; override it to use another one, which is emptied before each test."""
    from ryla_tasks.embedded import RedisServer

    with RedisServer(fsync="no") as server:
        yield server.url


@pytest.fixture
def ryla_queues() -> list[str]:
    """Queues that the worker serves besides its own and those in the app's configuration. To be overridden."""
    return []


@pytest.fixture
def ryla_worker(
    ryla_app: Celery,
    ryla_settings: Isolation,
    ryla_simulator: JobSimulator,
    ryla_redis_url: str,
    ryla_queues: list[str],
) -> Iterator[JobSimulator]:
    """A real Celery worker in threads of this process, with an embedded Redis: jobs go as they do in production, and
    receivers of `job_ended` are called. It is the simulator."""
    from ryla_tasks.testing.worker import running_worker

    ryla_settings.use_redis(ryla_redis_url)
    with running_worker(ryla_app, ryla_queues):
        yield ryla_simulator
