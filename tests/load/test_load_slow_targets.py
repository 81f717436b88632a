"""A target that hangs, or has very many jobs, does not make the polls of the others late."""

from __future__ import annotations

import json
import time

import pytest

from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Delay, EndpointConfig
from tests.support.crowd import Crowd
from tests.support.fleet import Fleet, eventually

#: p99 of how late the polls at a good target may be, in seconds.
LATENESS_S = 2.0


#: A second endpoint that hangs.
SECOND = "second"


def settings() -> dict[str, str]:
    names = {"echo": "echo", "lora": "lora", "special": SECOND}
    quick = {"poll_min_s": 1, "poll_max_s": 2, "max_retries": 0}
    return {
        f"RYLA_ENDPOINT_{name.upper()}": json.dumps({"targets": [{"endpoint_id": at}], **quick})
        for name, at in names.items()
    }


def overdue(fleet: Fleet, target: str) -> float:
    """For how long the poll at a target has been due that is due the longest, in seconds."""
    first = fleet.client.zrange(f"ryla:due:poll:{target}", 0, 0, withscores=True)
    if not first:
        return 0.0
    seconds, micros = fleet.client.time()
    return max(0.0, seconds + micros / 1e6 - first[0][1] / 1e6)


def lateness(fleet: Fleet, target: str, for_s: float) -> float:
    """p99 over time of the longest that a poll has been due at a target."""
    samples, end = [], time.monotonic() + for_s
    while time.monotonic() < end:
        samples.append(overdue(fleet, target))
        time.sleep(0.02)
    return sorted(samples)[int(0.99 * len(samples))]


@pytest.mark.parametrize(
    ("hang", "seconds"),
    [
        pytest.param(("lora",), 10.0, id="one", marks=pytest.mark.load),
        pytest.param(("lora", "special"), 7.0, id="two"),
    ],
)
def test_hanging_targets_do_not_delay_the_polls_of_others(fleet: Fleet, hang: tuple[str, ...], seconds: float) -> None:
    """Four slots; submits and status calls of the bad targets hang, and the good target's polls keep their time."""
    fleet.reset(workers_min=100, workers_max=100)
    fleet.simulator.add_endpoint(
        EndpointConfig(
            endpoint_id=SECOND, program="echo", queue_delay_s=0.1, workers_min=50, workers_max=50, cold_start_s=0.0
        )
    )
    fleet.worker("--concurrency", "4", **settings()).wait_ready()
    good = Crowd(fleet, 10, 40.0)
    bad = [Crowd(fleet, 10, 40.0, endpoint=name) for name in hang]
    under_way = len(good) + sum(map(len, bad))
    eventually(lambda: good.count(State.RUNNING) == under_way, what=f"{under_way} running")
    for name in hang:
        endpoint = fleet.simulator.endpoint({"lora": "lora", "special": SECOND}[name])
        for op in ("run", "status"):
            endpoint.add_fault(Delay(op=op, seconds=25, times=None))
        Crowd(fleet, 4, 1.0, endpoint=name)
    p99 = lateness(fleet, "runpod:echo", seconds)
    print(f"hang={hang} p99_s={p99:.2f}")
    assert good.count(State.RUNNING) == under_way
    assert p99 < LATENESS_S


@pytest.mark.parametrize(
    ("jobs", "seconds"),
    [
        pytest.param(400, 10.0, id="400"),
        pytest.param(5_000, 65.0, id="5000", marks=[pytest.mark.load, pytest.mark.timeout(400)]),
    ],
)
def test_a_huge_target_does_not_delay_the_polls_of_others(fleet: Fleet, jobs: int, seconds: float) -> None:
    fleet.reset(workers_min=jobs + 50, workers_max=jobs + 50)
    fleet.worker("--concurrency", "4", **settings()).wait_ready()
    good = Crowd(fleet, 10, 40.0 + jobs / 20)
    eventually(lambda: good.count(State.RUNNING) == 10)
    Crowd(fleet, jobs, 20.0 + jobs / 20, endpoint="lora")
    p99 = lateness(fleet, "runpod:echo", seconds)
    print(f"jobs={jobs} p99_s={p99:.2f}")
    assert p99 < LATENESS_S
