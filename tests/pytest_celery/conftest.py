"""pytest-celery's setup on processes of this machine: one Redis, and two workers on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery, current_app
from pytest_celery import CeleryTestWorker, CeleryWorkerCluster, RedisTestBackend, RedisTestBroker

import ryla_tasks
from tests.support.fleet import Fleet
from tests.support.nodes import RedisProcess, WorkerNode


@pytest.fixture
def celery_broker(fleet: Fleet) -> RedisTestBroker:
    return RedisTestBroker(RedisProcess(fleet, "broker"))


@pytest.fixture
def celery_backend(fleet: Fleet) -> RedisTestBackend:
    return RedisTestBackend(RedisProcess(fleet, "backend"))


@pytest.fixture
def celery_worker_cluster(fleet: Fleet) -> Iterator[CeleryWorkerCluster]:
    nodes = [WorkerNode(fleet, f"worker-{number}", "--concurrency", "4") for number in (1, 2)]
    yield CeleryWorkerCluster(*(CeleryTestWorker(node, app=ryla_tasks.app) for node in nodes))
    for node in nodes:
        node.teardown()


@pytest.fixture
def celery_setup_app() -> Iterator[Celery]:
    """Our own app, in place of one that pytest-celery would make. A restarted node makes it the current one."""
    before = current_app._get_current_object()
    yield ryla_tasks.app
    before.set_current()
