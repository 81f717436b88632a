"""Worker processes share the work, and one that joins or dies is no event."""

from __future__ import annotations

import pytest

from ryla_tasks.jobs.states import State
from tests.support.crowd import Crowd, polls
from tests.support.fleet import Fleet, eventually

LONG = [pytest.mark.load, pytest.mark.timeout(400)]

POLLED = ("--concurrency", "4", "-l", "DEBUG")


def test_of_two_workers_neither_makes_most_of_the_polls(fleet: Fleet) -> None:
    """Neither over 85 %, whoever of the two gets more of the processor; and each claim settles once."""
    fleet.reset(workers_min=200, workers_max=400)
    workers = fleet.workers(2, *POLLED)
    crowd = Crowd(fleet, 150, 6.0)
    crowd.wait_ended()
    crowd.check_told()
    crowd.check_submitted_once()
    assert crowd.states() == {State.COMPLETED: 150}
    claims, settles = zip(*[polls(worker) for worker in workers], strict=True)
    assert claims == settles
    assert max(claims) <= 0.85 * sum(claims), claims
    assert crowd.counter("fences_lost") == 0


@pytest.mark.parametrize(
    ("count", "jobs", "remote_s"),
    [
        pytest.param(2, 100, 14.0, id="2"),
        *(pytest.param(n, 600, 20.0, id=f"{n}-long", marks=LONG) for n in (1, 2, 4)),
    ],
)
def test_one_joins_and_one_dies_in_mid_run(fleet: Fleet, count: int, jobs: int, remote_s: float) -> None:
    """All jobs end, each submitted once; a claim settles once, but for those that died with their worker."""
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    workers = fleet.workers(count, *POLLED)
    crowd = Crowd(fleet, jobs, remote_s)
    workers.append(fleet.worker(*POLLED))
    crowd.wait_submitted()
    workers[-1].wait_ready()
    eventually(lambda: polls(workers[-1])[0], timeout=remote_s, what="who joins takes part")
    dying = workers[0]
    dying.kill()
    # A delivery that was under way in the dead worker is taken over when its claim has run out, three minutes later.
    crowd.wait_ended(timeout=250)
    crowd.check_told()
    crowd.check_submitted_once()
    assert crowd.states() == {State.COMPLETED: jobs}
    assert crowd.counter("fences_lost") == 0
    for worker, (claimed, settled) in zip(workers, map(polls, workers), strict=True):
        assert settled <= claimed
        assert settled == claimed or worker is dying, (claimed, settled)
