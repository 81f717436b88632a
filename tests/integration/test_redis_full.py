"""A Redis without memory: what is accepted stands still, and goes on when there is memory again."""

from __future__ import annotations

import pytest

import ryla_tasks
from ryla_tasks.errors import StoreError
from ryla_tasks.jobs.states import State
from tests.support.fleet import Fleet, eventually


def test_jobs_go_on_when_redis_has_memory_again(fleet: Fleet) -> None:
    fleet.reset(run_s=2.0)
    worker = fleet.worker("--concurrency", "4", RYLA_SWEEP_INTERVAL_S="1").wait_ready()
    results = [ryla_tasks.run_endpoint.delay("echo", {"x": n}) for n in range(6)]
    late = ryla_tasks.run_endpoint.apply_async(("echo", {"x": 9}), countdown=2)
    jobs = [ryla_tasks.Job(result.id) for result in results]
    eventually(lambda: all(job.status is State.RUNNING for job in jobs))
    fleet.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreError):
            ryla_tasks.run_endpoint.delay("echo", {"x": 1})
        # The GPUs are done and polls come due; what follows from them cannot be sent.
        eventually(lambda: fleet.endpoint("echo").counters().ended.get("COMPLETED", 0) >= 6)
    finally:
        fleet.client.config_set("maxmemory", 0)
    assert worker.alive(), worker.text[-3000:]
    for result in [*results, late]:
        assert result.get(timeout=60)["attempts"] == 1
    assert fleet.endpoint("echo").counters().accepted == 7
