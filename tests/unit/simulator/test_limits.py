from __future__ import annotations

from ryla_tasks.simulator.limits import RateLimiter
from ryla_tasks.simulator.operations import Operation


def rate(limiter: RateLimiter, op: Operation, now: float, calls: int, quota: int = 0) -> int:
    """How many of so many calls, one after the other, come in."""
    came_in = 0
    for _ in range(calls):
        if limiter.enter(op, now, quota):
            came_in += 1
            limiter.leave(op)
    return came_in


def test_the_published_rates() -> None:
    published = {Operation.RUN: 1000, Operation.STATUS: 2000, Operation.CANCEL: 100, Operation.PURGE_QUEUE: 2}
    for op, calls in published.items():
        assert rate(RateLimiter(), op, 0.0, 2500) == calls


def test_the_window_slides() -> None:
    limiter = RateLimiter()
    assert rate(limiter, Operation.CANCEL, 0.0, 60) == 60
    assert rate(limiter, Operation.CANCEL, 5.0, 60) == 40
    assert rate(limiter, Operation.CANCEL, 10.0, 100) == 60
    assert rate(limiter, Operation.CANCEL, 15.0, 100) == 40


def test_the_published_concurrency() -> None:
    limiter = RateLimiter()
    assert sum(limiter.enter(Operation.CANCEL, 0.0) for _ in range(30)) == 20
    limiter.leave(Operation.CANCEL)
    assert limiter.enter(Operation.CANCEL, 0.0)


def test_operations_do_not_share_and_some_have_no_limit() -> None:
    limiter = RateLimiter()
    assert rate(limiter, Operation.PURGE_QUEUE, 0.0, 5) == 2
    assert rate(limiter, Operation.HEALTH, 0.0, 5000) == 5000


def test_many_workers_lift_the_rate() -> None:
    assert rate(RateLimiter(), Operation.RUN, 0.0, 2000, quota=1500) == 1500
    assert rate(RateLimiter(), Operation.RUN, 0.0, 2000, quota=10) == 1000
