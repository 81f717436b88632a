"""One worker process with four slots against thousands of jobs at once."""

from __future__ import annotations

import time

import pytest

from ryla_tasks.jobs.states import State
from tests.support.crowd import Crowd
from tests.support.fleet import Fleet


@pytest.mark.parametrize(
    ("jobs", "remote_s", "within_s"),
    [
        pytest.param(200, 3.0, 20.0, id="200"),
        pytest.param(2000, 20.0, 60.0, id="2000", marks=[pytest.mark.load, pytest.mark.timeout(300)]),
    ],
)
def test_four_slots_carry_all_jobs(fleet: Fleet, jobs: int, remote_s: float, within_s: float) -> None:
    """No job holds a slot while its GPU works: all are done soon after the last submit, none submitted twice."""
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    crowd = Crowd(fleet, jobs, remote_s)
    fleet.worker("--concurrency", "4").wait_ready()
    crowd.wait_submitted(timeout=120)
    submitted = time.monotonic()
    crowd.wait_ended(timeout=within_s - (time.monotonic() - submitted))
    assert crowd.states() == {State.COMPLETED: jobs}
    crowd.check_told()
    crowd.check_submitted_once()
    assert fleet.endpoint("echo").counters().accepted == jobs
    assert crowd.counter("fences_lost") == 0
