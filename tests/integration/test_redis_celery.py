"""What Celery itself must do with Redis under it. These tests decide which version of Celery we run on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import ryla_tasks
from ryla_tasks.simulator import Delay
from tests.support.fleet import Fleet, WorkerProcess, eventually


def reconnected(worker: WorkerProcess) -> Callable[[], bool]:
    """Whether the worker is connected anew since now, or has ended instead."""
    before = worker.text.count("Connected to ")
    return lambda: worker.text.count("Connected to ") > before or not worker.alive()


@pytest.mark.parametrize("end", ["stop", pytest.param("kill", marks=pytest.mark.load)])
def test_a_worker_that_holds_a_message_outlives_a_restart_of_redis(
    fleet: Fleet, worker: WorkerProcess, end: str
) -> None:
    """The message waits in the worker's memory for its time, unacknowledged, when Redis goes away."""
    result = ryla_tasks.run_endpoint.apply_async(("echo", {"simulate": {"seconds": 0.2}}), countdown=3.0)
    eventually(lambda: fleet.client.hlen("unacked"), what="message held")
    back = reconnected(worker)
    getattr(fleet.redis, end)()
    fleet.redis.start()
    eventually(back, timeout=30, what="worker back")
    assert worker.alive(), worker.text[-3000:]
    assert result.get(timeout=30)


def test_a_submit_under_way_is_recorded_when_redis_is_back(fleet: Fleet, worker: WorkerProcess) -> None:
    """The GPU worker that it started is paid for: the answer is kept until it can be written down."""
    fleet.endpoint("echo").add_fault(Delay(op="run", seconds=2.0))
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 0.2}})
    eventually(lambda: fleet.endpoint("echo").counters().accepted, what="POST under way")
    back = reconnected(worker)
    fleet.redis.kill()
    fleet.redis.start()
    eventually(back, timeout=30, what="worker back")
    assert worker.alive(), worker.text[-3000:]
    assert result.get(timeout=30)
    assert fleet.endpoint("echo").counters().accepted == 1
