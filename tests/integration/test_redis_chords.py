"""A chord whose header is delivered again because a worker died in the middle of a delivery."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import chord

from ryla_tasks.tasks.deliver import LEASE_S
from tests.support import dying_app
from tests.support.fleet import Fleet, eventually

APP = "tests.support.dying_app"


def let_the_claims_end(fleet: Fleet, group_id: str) -> None:
    """Let the time pass for which the dead worker's claims hold: Celery's on the chord, then ours on its deliveries."""
    claim = f"celery-taskset-meta-{group_id}.c"
    assert fleet.client.ttl(claim) < LEASE_S, "Celery would not fire the chord when we deliver again"
    fleet.client.delete(claim)
    for job_id in fleet.client.zrange("ryla:due:deliver", 0, -1):
        fleet.client.zadd("ryla:due:deliver", {job_id: 0}, xx=True)
        fleet.client.zadd("ryla:outbox", {b"deliver|" + job_id: 0}, xx=True)


@pytest.mark.parametrize("moment", ["counted", "publishing", "published"])
def test_a_chord_fires_once_with_all_parts(fleet: Fleet, tmp_path: Path, moment: str) -> None:
    """The body comes neither early nor twice nor never, wherever in a delivery the worker dies."""
    died = tmp_path / "died"
    worker = fleet.worker("--concurrency", "4", app=APP, DIE_AT=moment, DIED=str(died)).wait_ready()
    # The last part is late, so that a part that counted twice would make the chord fire without it.
    slow = 4.0 if moment == "counted" else 1.0
    result = chord([dying_app.part.s(0.2), dying_app.part.s(0.2), dying_app.part.s(slow)])(dying_app.body.s())
    eventually(lambda: died.exists() and not worker.alive(), what="worker dies")
    assert fleet.client.zcard("ryla:due:deliver")
    let_the_claims_end(fleet, result.parent.id)
    fleet.worker("--concurrency", "4", app=APP, DIE_AT=moment, DIED=str(died)).wait_ready()
    assert result.get(timeout=40) == 3
    eventually(lambda: not fleet.client.zcard("ryla:due:deliver"), what="all delivered")
    assert dying_app.body.delay([]).get(timeout=10) == 0  # behind a second body, if there is one
    assert fleet.client.lrange("ryla:bodies", 0, -1) == [b"3", b"0"]
    assert fleet.endpoint("echo").counters().accepted == 3
