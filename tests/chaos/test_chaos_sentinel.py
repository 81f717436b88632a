"""sentinel:// as an address: masters die under load, and the jobs go on at the replica that takes the place of each."""

from __future__ import annotations

import time

import pytest
import redis

from tests.support.chaos.report import note
from tests.support.chaos.victims import quick_worker
from tests.support.fleet import Fleet, eventually
from tests.support.sentinel import Sentinel
from tests.support.web import enqueue, look


def counted(sentinel: Sentinel, prefix: str) -> int:
    """The sum of the engine's counters with such names, at the master of the moment."""
    try:
        with redis.Redis.from_url(sentinel.master().url) as client:
            counters = client.hgetall("ryla:counters")
    except redis.RedisError:
        return 0
    return sum(int(count) for name, count in counters.items() if name.startswith(prefix.encode()))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("jobs", "seconds", "times"),
    [
        pytest.param(24, 2.0, 1, id="24"),
        pytest.param(400, 15.0, 2, id="400-twice", marks=pytest.mark.chaos),
    ],
)
def test_the_master_is_killed_under_load(chaos: Fleet, jobs: int, seconds: float, times: int) -> None:
    """Sentinel promotes a replica. Every job ends with its own result, and none is submitted twice, as each submit
    waits until a replica knows of it. A master that died comes back as a replica."""
    chaos.reset(workers_min=jobs, workers_max=jobs)
    with Sentinel() as sentinel:
        ids = enqueue(chaos, jobs, seconds, **sentinel.settings)
        sentinel.wait_in_step(2)
        began = time.monotonic()
        workers = [quick_worker(chaos, **sentinel.settings) for _ in range(2)]
        for time_no in range(1, times + 1):
            eventually(
                lambda n=time_no: counted(sentinel, "submits") >= n * jobs // 3, timeout=60, what="some submitted"
            )
            dead = sentinel.fail_over()
            if time_no < times:
                dead.start()
                sentinel.wait_in_step(2)
        eventually(lambda: counted(sentinel, "ended:") == jobs, timeout=150, every=0.1, what="all ended")
        found = eventually(lambda: _told(chaos, ids, sentinel), timeout=60, what="all told")
        took = time.monotonic() - began
        assert all(worker.alive() for worker in workers), "none had to be started again"
    unanswered = {number for number, one in enumerate(found) if one["error"] == "SubmitOutcomeUnknown"}
    assert {number: one["n"] for number, one in enumerate(found) if number not in unanswered} == {
        number: number for number in range(jobs) if number not in unanswered
    }
    taken = [job.input["ryla"]["job_id"] for job in chaos.simulator._simulator.endpoints["echo"].core.jobs.values()]
    doubles = len(taken) - len(set(taken))
    remark = f"{took:.0f} s, {len(unanswered)} unanswered"
    note(f"Sentinel: SIGKILL of the master, {times} times", jobs, len(found), doubles, remark)
    assert doubles == 0
    assert set(taken) <= set(ids)


def _told(fleet: Fleet, ids: list[str], sentinel: Sentinel) -> list[dict[str, object]] | None:
    found = look(fleet, ids, **sentinel.settings)
    return found if all(one["state"] in ("SUCCESS", "FAILURE") for one in found) else None
