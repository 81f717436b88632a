"""A poll message goes on with ride after ride while each is full, and leaves the rest to the next."""

from __future__ import annotations

import pytest

import ryla_tasks
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer
from ryla_tasks.tasks import poll
from ryla_tasks.tasks.poll import MOST_JOBS, ride
from ryla_tasks.tasks.submit import submit_line
from tests.conftest import fresh_settings
from tests.support.fleet import Fleet, eventually
from tests.support.messages import queued

TARGET = "runpod:echo"


@pytest.fixture
def overdue(fleet: Fleet) -> Fleet:
    """Three rides' worth of jobs and some more, in flight and overdue, and no worker."""
    fresh_settings()
    fleet.reset(workers_min=300, workers_max=300, rate_limits=False)
    for _ in range(3 * MOST_JOBS + 5):
        ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 100}})
    eventually(lambda: submit_line(ryla_tasks.app, "echo") or not fleet.client.zcard("ryla:idx:state:queued"))
    due = f"ryla:due:poll:{TARGET}"
    fleet.client.zadd(due, {job: score - 60e6 for job, score in fleet.client.zrange(due, 0, -1, withscores=True)})
    fleet.client.delete(*fleet.client.scan_iter("ryla.*"))
    fleet.client.hdel("ryla:wake", TARGET)
    return fleet


def polled(fleet: Fleet) -> int:
    return sum(fleet.endpoint("echo").counters().calls.get("status", {}).values())


def test_one_message_polls_all_that_is_overdue(overdue: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "TURN_S", 60.0)
    # 192 at once is what the limits allow after a while without polls; the last claim of so many is cut short.
    ride(ryla_tasks.app, TARGET)
    assert polled(overdue) >= 3 * MOST_JOBS
    assert overdue.client.zcard(f"ryla:idx:state:{State.RUNNING}") == polled(overdue)
    help_wanted, following = queued(overdue.client, "ryla.polls")[-1], queued(overdue.client, "ryla.polls")[0]
    assert len(queued(overdue.client, "ryla.polls")) == 2, "one for another process, one for what comes next"
    assert help_wanted["headers"]["eta"] != following["headers"]["eta"]
    assert overdue.client.hexists("ryla:wake", TARGET)


def test_when_its_turn_is_over_the_rest_is_left_to_another_message(
    overdue: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "TURN_S", 0.0)
    ride(ryla_tasks.app, TARGET)
    assert polled(overdue) == MOST_JOBS
    assert queued(overdue.client, "ryla.polls")


def test_a_429_ends_the_turn(overdue: Fleet) -> None:
    overdue.endpoint("echo").add_fault(Answer(op="status", status=429, times=None, retry_after=5))
    ride(ryla_tasks.app, TARGET)
    assert polled(overdue) <= MOST_JOBS
    assert len(overdue.client.hgetall("ryla:not_before")) == 1
