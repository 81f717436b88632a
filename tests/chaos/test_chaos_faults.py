"""An endpoint that misbehaves: every job still comes to its end with the right result, and nothing is paid twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer, Delay, LoseAnswer, Operation
from tests.conftest import fresh_settings
from tests.support.chaos.mix import Mix
from tests.support.chaos.report import SEED, WHOLE, note
from tests.support.chaos.victims import quick_worker
from tests.support.fleet import Fleet


def misbehave(fleet: Fleet) -> None:
    """All that goes wrong at once, each with a small chance."""
    echo = fleet.endpoint("echo")
    for fault in (
        LoseAnswer(op=Operation.RUN, times=None, probability=0.02),
        LoseAnswer(op=Operation.RUN, after=False, times=None, probability=0.02),
        Answer(op=Operation.RUN, status=500, after=True, times=None, probability=0.01),
        Answer(op=Operation.RUN, status=429, retry_after=0.5, times=None, probability=0.02),
        Delay(op=Operation.RUN, seconds=0.5, times=None, probability=0.02),
        Answer(op=Operation.STATUS, status=404, times=None, probability=0.02),
        Answer(op=Operation.STATUS, status=500, times=None, probability=0.02),
        Answer(op=Operation.STATUS, status=200, body="<html>", times=None, probability=0.01),
        LoseAnswer(op=Operation.STATUS, times=None, probability=0.02),
        Delay(op=Operation.STATUS, seconds=1.0, times=None, probability=0.01),
        LoseAnswer(op=Operation.CANCEL, times=None, probability=0.3),
    ):
        echo.add_fault(fault)


def mixed(mix: Mix, count: int, chance: random.Random) -> None:
    """Jobs of all sorts."""
    for _ in range(count):
        options = {
            "on_unknown": chance.choice(["fail", "wait"]),
            "priority": chance.choice(["high", "normal", "low"]),
            "user_id": f"user-{chance.randrange(5)}",
        }
        match chance.choices(["plain", "fails", "never", "crash", "big"], [80, 6, 4, 6, 4])[0]:
            case "plain":
                mix.add(State.COMPLETED, simulate={"seconds": chance.uniform(0, 3)}, **options)
            case "fails":
                mix.add(State.FAILED, simulate={"fail": "no"}, max_retries=chance.randrange(2), **options)
            case "never":
                # Its deadline may come before it was submitted, and while its answer is waited for.
                mix.add(State.TIMED_OUT, simulate={"never_end": True}, deadline_s=chance.uniform(1, 9), **options)
            case "crash":
                mix.add(State.COMPLETED, simulate={"seconds": 1, "crash": 1}, **options)
            case _:
                job_id = mix.add(State.COMPLETED, simulate={"seconds": 1, "output_bytes": 90_000}, **options)
                mix.inputs[job_id] = {}


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param(300, id="300"),
        pytest.param(10_000, id="10000", marks=[pytest.mark.chaos, pytest.mark.timeout(1500)]),
    ],
)
def test_mixed_jobs_under_faults(chaos: Fleet, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost answers, bursts of 429, errors, slow answers, 404 for live jobs, jobs that crash, fail and never end."""
    print(f"seed {SEED}")
    endpoint = {**json.loads(os.environ["RYLA_ENDPOINT_ECHO"]), "execution_timeout_s": 10, "ttl_s": 10}
    monkeypatch.setenv("RYLA_ENDPOINT_ECHO", json.dumps(endpoint))
    fresh_settings()
    misbehave(chaos)
    mix = Mix(chaos)
    workers = [quick_worker(chaos, RYLA_ENDPOINT_ECHO=json.dumps(endpoint)) for _ in range(2)]
    mixed(mix, jobs, random.Random(f"{SEED}:mixed"))
    took = mix.wait(1200 if WHOLE else 100)
    assert all(worker.alive() for worker in workers)
    note(
        f"{jobs} mixed jobs under faults",
        jobs,
        mix.ended(),
        mix.check(),
        f"{took:.0f} s, {mix.unanswered()} unanswered",
    )


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_gpu_workers_killed_at_60_percent(chaos: Fleet) -> None:
    """RunPod gives their jobs to others: the same attempts, the percentage held, the users told, both runs costed."""
    count, seconds = 200, 10.0
    chaos.endpoint("echo").update(workers_min=count, steps=10)
    mix = Mix(chaos)
    for _ in range(count):
        mix.add(State.COMPLETED, simulate={"seconds": seconds, "crash": 1, "crash_after_s": 0.6 * seconds})
    quick_worker(chaos)
    mix.wait(120)
    counters = chaos.endpoint("echo").counters()
    assert (counters.accepted, counters.redispatches, counters.billable_starts) == (count, count, 2 * count)
    assert mix.counter("attempts") == count
    for job_id, record in mix.records().items():
        told = mix.progress_of(job_id)
        percents = [percent for kind, percent in told if kind in ("state", "progress", "restarted")]
        assert percents == sorted(percents), told
        assert "restarted" in [kind for kind, _ in told], told
        assert record.attempt == 1
        assert record.observed.banked_ms >= 0.4 * seconds * 1000, record.observed
    note(
        f"{count} GPU workers killed at 60 %",
        count,
        mix.ended(),
        mix.check(),
        f"{counters.redispatches} dispatched again",
    )


def _libfaketime() -> str | None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.skipif(_libfaketime() is None, reason="libfaketime is not installed: apt-get install faketime")
@pytest.mark.parametrize("skews", [("+30s", "-30s"), ("-30s", "-30s"), ("+30s", "+30s")])
def test_clocks_that_differ(chaos: Fleet, skews: tuple[str, str]) -> None:
    """Workers half a minute before and behind Redis and the caller: times come from Redis, so nothing goes wrong."""
    mix = Mix(chaos)
    mix.plain(60, 3.0)
    for _ in range(5):
        mix.add(State.TIMED_OUT, simulate={"never_end": True}, deadline_s=10)
    chaos.endpoint("echo").add_fault(Answer(op=Operation.RUN, status=429, times=5, retry_after=0.5))
    skewed = {"LD_PRELOAD": _libfaketime() or "", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    for skew in skews:
        shown = subprocess.run(["date", "+%s"], env={**os.environ, **skewed, "FAKETIME": skew}, capture_output=True)
        assert abs(int(shown.stdout) - time.time()) == pytest.approx(30, abs=3)
        quick_worker(chaos, **skewed, FAKETIME=skew)
    took = mix.wait(120)
    note(f"clocks {' and '.join(skews)}", len(mix), mix.ended(), mix.check(), f"{took:.0f} s")
    assert mix.unanswered() == 0
