"""Jobs that fail over while workers are killed and frozen: each runs once, and only where it was not cancelled."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

import ryla_tasks
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer, EndpointConfig, LoseAnswer, Operation
from tests.conftest import fresh_settings
from tests.support.chaos.mix import Mix
from tests.support.chaos.report import SEED, note
from tests.support.chaos.victims import quick_worker, victim, wait_struck
from tests.support.fleet import Fleet, WorkerProcess, eventually

PATIENCE = {"RYLA_HEALTH_INTERVAL_S": "1", "RYLA_STUCK_AFTER_S": "2"}


@pytest.fixture
def pair(chaos: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """No worker ever comes to "echo"; `spare` is warm."""
    chaos.simulator.add_endpoint(
        EndpointConfig(
            endpoint_id="spare", program="echo", workers_min=200, workers_max=200, cold_start_s=0, run_s=0.3,
            rate_limits=False,
        )
    )  # fmt: skip
    chaos.endpoint("echo").update(workers_min=0, workers_max=0)
    one = json.loads(os.environ["RYLA_ENDPOINT_ECHO"])
    limits = {**one.pop("limits"), "cancel_per_10s": 5_000}
    targets = [{"endpoint_id": name, "limits": limits} for name in (one.pop("endpoint_id"), "spare")]
    for name, value in {**PATIENCE, "RYLA_ENDPOINT_ECHO": json.dumps({**one, "targets": targets})}.items():
        monkeypatch.setenv(name, value)
    fresh_settings()
    return chaos


def settings() -> dict[str, str]:
    return {name: os.environ[name] for name in ("RYLA_ENDPOINT_ECHO", *PATIENCE)}


def crowd(mix: Mix, count: int) -> list[ryla_tasks.Job]:
    return [ryla_tasks.Job(job_id) for job_id in mix.plain(count, 0.3)]


def check(fleet: Fleet, mix: Mix, scenario: str, remark: str) -> None:
    first, second = fleet.endpoint("echo").counters(), fleet.simulator.endpoint("spare").counters()
    records = mix.records().values()
    unanswered, completed = mix.unanswered(), sum(record.state is State.COMPLETED for record in records)
    assert (first.billable_starts, first.duplicates, second.duplicates) == (0, 0, 0)
    assert completed + unanswered == len(mix)
    assert completed <= second.billable_starts <= len(mix), "each job ran once"
    assert sum(bool(record.left) for record in records) == first.ended.get("CANCELLED", 0)
    mix.check_idle()
    moved = int(fleet.client.hget("ryla:counters", "failovers") or 0)
    doubles = max(0, second.billable_starts - len(mix))
    note(scenario, len(mix), mix.ended(), doubles, f"{remark}, {moved} moved, {unanswered} unanswered")


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", ["kill", "freeze"])
@pytest.mark.parametrize(
    "point",
    ["before_remote_cancel", "after_remote_cancel", "after_ask_before_settle", "after_poll_settle_before_message"],
)
def test_a_worker_dies_or_freezes_in_the_middle_of_a_failover(pair: Fleet, point: str, mode: str) -> None:
    mix = Mix(pair)
    nth = random.Random(f"{SEED}:failover:{point}:{mode}").randrange(1, 4)
    jobs = crowd(mix, 20)
    first = victim(pair, point, nth, mode, **settings())
    wait_struck(first, mode)
    quick_worker(pair, **settings())
    took = mix.wait(100)
    if mode == "freeze":
        first.signal(signal.SIGCONT)
        late = crowd(mix, 5)
        mix.wait(60)
        assert all(job.status is State.COMPLETED for job in late)
    assert all(job.status is State.COMPLETED for job in jobs)
    check(pair, mix, f"failover, {mode} at {point}:{nth}", f"{took:.0f} s")


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(2))
def test_workers_killed_at_random_while_a_queue_moves(pair: Fleet, seed: int) -> None:
    """With lost cancels and statuses as well."""
    chance = random.Random(f"{SEED}:failover:{seed}")
    print(f"seed {SEED}:{seed}")
    echo = pair.endpoint("echo")
    echo.add_fault(LoseAnswer(op=Operation.CANCEL, times=None, probability=0.3))
    echo.add_fault(Answer(op=Operation.CANCEL, status=500, times=None, probability=0.1))
    echo.add_fault(LoseAnswer(op=Operation.STATUS, times=None, probability=0.05))
    mix = Mix(pair)
    crowd(mix, 150)
    workers: list[WorkerProcess] = [quick_worker(pair, **settings()) for _ in range(3)]
    kills, end = 0, time.monotonic() + 20
    while time.monotonic() < end:
        moment = time.monotonic() + chance.uniform(0.5, 2.5)
        eventually(lambda t=moment: time.monotonic() > t, every=0.01)
        workers.pop(chance.randrange(len(workers))).kill()
        kills += 1
        workers.append(quick_worker(pair, **settings()))
    took = mix.wait(120)
    check(pair, mix, f"failover of 150 under {kills} SIGKILLs", f"{took:.0f} s")
