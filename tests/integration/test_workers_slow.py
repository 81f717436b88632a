"""Slow calls hold up nobody else: slow submits and fetches no polls, one target no other, a 429 no job for good."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from datetime import datetime

import pytest

import ryla_tasks
from ryla_tasks.jobs.states import State
from ryla_tasks.settings import reset_settings
from ryla_tasks.simulator import Answer, Delay
from ryla_tasks.tasks import runtime
from tests.support.crowd import Crowd
from tests.support.fleet import Fleet, WorkerProcess, eventually

SLOTS = 4
POLLED = ("--concurrency", str(SLOTS), "-l", "DEBUG")

#: A job of these tests is polled at least each 1.5 s; the rest is for a machine that has more to do than this.
LATEST_S = 4.0


@pytest.fixture(autouse=True)
def often(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs of these endpoints are polled often."""
    for name in ("echo", "lora"):
        quick = {"endpoint_id": name, "poll_min_s": 1.0, "poll_max_s": 1.5}
        monkeypatch.setenv(f"RYLA_ENDPOINT_{name.upper()}", json.dumps(quick))
    reset_settings()
    runtime.forget(ryla_tasks.app)
    yield
    monkeypatch.undo()
    reset_settings()
    runtime.forget(ryla_tasks.app)


_RIDE = re.compile(r"^(?P<at>[\d-]+ [\d:,]+) .*poll\.ride target=(?P<target>\S+)", re.MULTILINE)


def rides(worker: WorkerProcess, target: str) -> list[float]:
    """When rides at a target ended, in seconds."""
    found = [ride["at"] for ride in _RIDE.finditer(worker.text) if ride["target"] == target]
    return [datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").timestamp() for at in found]  # noqa: DTZ007 - differences only


def longest_gap(times: list[float]) -> float:
    assert len(times) > 2, times
    return max(later - earlier for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("jobs", "delay_s"),
    [
        pytest.param(12, 1.5, id="12-of-1.5-s"),
        pytest.param(90, 2.0, id="90-of-2-s", marks=[pytest.mark.load, pytest.mark.timeout(300)]),
        pytest.param(30, 10.0, id="30-of-10-s", marks=[pytest.mark.load, pytest.mark.timeout(300)]),
    ],
)
def test_slow_submits_leave_a_slot_to_polls(fleet: Fleet, jobs: int, delay_s: float) -> None:
    """Polls go on punctually meanwhile, and the other slots work the backlog off without a pause."""
    at_best_s = jobs * delay_s / (SLOTS - 1)
    worker = fleet.worker(*POLLED).wait_ready()
    polled = Crowd(fleet, 10, at_best_s, endpoint="lora")
    polled.wait_submitted()
    fleet.endpoint("echo").add_fault(Delay(op="run", seconds=delay_s, times=None))
    slow = Crowd(fleet, jobs, 0.2)
    polled.wait_ended(len(polled) + len(slow), timeout=1.5 * at_best_s + 10.0)
    assert longest_gap(rides(worker, "runpod:lora")) < LATEST_S
    assert polled.states() == {State.COMPLETED: len(polled) + len(slow)}
    assert fleet.endpoint("echo").counters().accepted == len(slow)


def test_slow_collections_leave_a_slot_to_polls(fleet: Fleet) -> None:
    """The same for outputs that are too large to come with a poll and have to be fetched."""
    worker = fleet.worker(*POLLED).wait_ready()
    polled = Crowd(fleet, 10, 5.0, endpoint="lora")
    polled.wait_submitted()
    wish = {"simulate": {"seconds": 0.2, "output_bytes": 100_000}}
    with fleet.endpoint("echo").fault(Delay(op="status", seconds=1.5, times=None)):
        results = [ryla_tasks.run_endpoint.delay("echo", wish) for _ in range(6)]
        for result in results:
            assert len(result.get(timeout=40)["data"]["data"]) == 100_000
    eventually(lambda: polled.ended() >= len(polled) + len(results), timeout=40, every=0.05, what="all ended")
    assert longest_gap(rides(worker, "runpod:lora")) < LATEST_S
    assert polled.states() == {State.COMPLETED: len(polled) + len(results)}


def test_a_target_that_hangs_does_not_delay_the_polls_of_another(fleet: Fleet) -> None:
    """Not even with more calls hanging there than a process makes side by side."""
    fleet.reset(workers_min=80, workers_max=160)
    worker = fleet.worker(*POLLED).wait_ready()
    hanging = Crowd(fleet, 70, 1.0, endpoint="echo")
    with fleet.endpoint("echo").fault(Delay(op="status", seconds=6.0, times=None)):
        other = Crowd(fleet, 5, 5.0, endpoint="lora")
        eventually(lambda: all(result.ready() for result in other.results), timeout=30, what="the other's jobs end")
        assert rides(worker, "runpod:echo"), "a whole ride hung meanwhile"
    assert longest_gap(rides(worker, "runpod:lora")) < LATEST_S
    hanging.wait_ended(len(hanging) + len(other), timeout=40)
    assert hanging.states() == {State.COMPLETED: len(hanging) + len(other)}


def test_a_429_stops_the_ride_and_all_calls_until_the_target_wants_them(fleet: Fleet) -> None:
    """Retry-After is obeyed by the whole process, and no job is lost over it or ends later than it must."""
    fleet.reset(workers_min=100, workers_max=200)
    worker = fleet.worker(*POLLED).wait_ready()
    crowd = Crowd(fleet, 60, 4.0)
    crowd.wait_submitted()
    echo = fleet.endpoint("echo")
    echo.add_fault(Answer(op="status", status=429, retry_after=3.0))
    eventually(lambda: echo.counters().calls.get("status", {}).get(429), what="429")
    crowd.wait_ended()
    crowd.check_told()
    crowd.check_submitted_once()
    assert longest_gap(rides(worker, "runpod:echo")) >= 2.8
    assert crowd.states() == {State.COMPLETED: 60}
    assert echo.counters().calls["status"][429] == 1
