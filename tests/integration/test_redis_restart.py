"""Redis dies under load and comes back: all jobs end, and none is submitted twice."""

from __future__ import annotations

import pytest

from ryla_tasks.jobs.states import State
from tests.support.crowd import Crowd
from tests.support.fleet import Fleet


@pytest.mark.parametrize(
    ("jobs", "remote_s", "fsync"),
    [
        pytest.param(80, 3.0, "everysec", id="80"),
        pytest.param(500, 10.0, "everysec", id="500-everysec", marks=[pytest.mark.load, pytest.mark.timeout(400)]),
        pytest.param(500, 10.0, "always", id="500-always", marks=[pytest.mark.load, pytest.mark.timeout(400)]),
    ],
)
def test_redis_is_killed_under_load(fleet: Fleet, jobs: int, remote_s: float, fsync: str) -> None:
    """Once in the middle of the submits, once in the middle of the ends; the workers are kept by `ryla worker`.

    No submit's outcome is unknown afterwards: answers are kept until Redis is back.
    """
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    fleet.client.config_set("appendfsync", fsync)
    for _ in range(2):
        fleet.worker("--concurrency", "4", supervised=True).wait_ready()
    crowd = Crowd(fleet, jobs, remote_s)
    crowd.wait_submitted(jobs // 3)
    fleet.redis.kill()
    fleet.redis.start()
    crowd.wait_ended(jobs // 3, timeout=90)
    fleet.redis.kill()
    fleet.redis.start()
    crowd.wait_ended(timeout=240)
    crowd.check_told(timeout=240)
    crowd.check_submitted_once()
    assert crowd.states() == {State.COMPLETED: jobs}
    assert fleet.endpoint("echo").counters().accepted == jobs
