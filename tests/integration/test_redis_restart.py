"""Redis dies under load and comes back: all jobs end, and none is submitted twice."""

from __future__ import annotations

import pytest

import ryla_tasks
from ryla_tasks.errors import SubmitOutcomeUnknown
from ryla_tasks.jobs.states import State
from ryla_tasks.tasks.crew import MOST
from tests.support.crowd import Crowd
from tests.support.fleet import Fleet, eventually

WORKERS, SLOTS = 2, 4

#: A submit whose claim was lost is given up soon.
IMPATIENT = {"RYLA_HTTP_TOTAL_S": "2", "RYLA_HTTP_READ_S": "2", "RYLA_HTTP_CONNECT_S": "2"}

LONG = [pytest.mark.load, pytest.mark.timeout(500)]


@pytest.mark.parametrize(
    ("jobs", "remote_s", "fsync", "wait"),
    [
        pytest.param(80, 3.0, "everysec", False, id="80"),
        pytest.param(500, 10.0, "everysec", True, id="500-everysec", marks=LONG),
        pytest.param(500, 10.0, "always", True, id="500-always", marks=LONG),
    ],
)
def test_redis_is_killed_under_load(fleet: Fleet, jobs: int, remote_s: float, fsync: str, wait: bool) -> None:
    """Once in the middle of the submits, once in the middle of the ends; the workers are kept by `ryla worker`.

    Answers of the endpoint are kept until Redis is back. But where Redis has carried out a claim and died before it
    said so, nobody knows who holds the job: a submit ends as unknown, a delivery is taken over three minutes later.
    """
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    fleet.client.config_set("appendfsync", fsync)
    fleet.workers(WORKERS, "--concurrency", str(SLOTS), supervised=True, **IMPATIENT)
    crowd = Crowd(fleet, jobs, remote_s)
    crowd.wait_submitted(jobs // 3)
    fleet.redis.kill()
    fleet.redis.start()
    crowd.wait_ended(jobs // 3, timeout=90)
    fleet.redis.kill()
    fleet.redis.start()
    if not wait:
        eventually(lambda: crowd.ended() + crowd.count(State.COLLECTING) == jobs, timeout=60, what="all at their ends")
        let_deliveries_lapse(fleet)
    crowd.wait_ended(timeout=250)
    if not wait:
        let_deliveries_lapse(fleet)
    crowd.check_told(timeout=250)
    crowd.check_submitted_once()
    unknown = [job for job in map(ryla_tasks.Job.get, (result.id for result in crowd.results)) if job.error]
    assert all(isinstance(job.error, SubmitOutcomeUnknown) for job in unknown)
    assert len(unknown) <= WORKERS * (SLOTS - 1 + MOST), "each process keeps a slot for polls"
    assert fleet.endpoint("echo").counters().accepted >= jobs - len(unknown)


def let_deliveries_lapse(fleet: Fleet) -> None:
    """Let the time pass for which deliveries are claimed. One that is alive is done twice, which changes nothing."""
    for job_id in fleet.client.zrange("ryla:due:deliver", 0, -1):
        fleet.client.zadd("ryla:due:deliver", {job_id: 0}, xx=True)
        fleet.client.zadd("ryla:outbox", {b"deliver|" + job_id: 0}, xx=True)
