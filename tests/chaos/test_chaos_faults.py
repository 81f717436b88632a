"""An endpoint that misbehaves: every job still comes to its end with the right result, and nothing is paid twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import ryla_tasks
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer, CallWebhook, Delay, LoseAnswer, Operation, Outdated
from ryla_tasks.tasks.runtime import runtime_of
from tests.conftest import fresh_settings
from tests.support.chaos.mix import Mix
from tests.support.chaos.report import SEED, WHOLE, note
from tests.support.chaos.victims import quick_worker
from tests.support.fleet import Fleet
from tests.support.hooks import webhooks


def misbehave(fleet: Fleet) -> None:
    """All that goes wrong at once, each with a small chance."""
    echo = fleet.endpoint("echo")
    always: dict[str, Any] = {"times": None}
    for fault in (
        # A submit: taken and not answered, not taken and not answered, taken and refused, refused in bursts, slow.
        LoseAnswer(op=Operation.RUN, probability=0.02, **always),
        LoseAnswer(op=Operation.RUN, after=False, probability=0.02, **always),
        Answer(op=Operation.RUN, status=500, after=True, probability=0.01, **always),
        Answer(op=Operation.RUN, status=429, retry_after=0.5, probability=0.005, burst=12, **always),
        Delay(op=Operation.RUN, seconds=0.5, probability=0.02, **always),
        # A status: not there although it is, of before the end, refused in bursts, broken, lost, slow.
        Answer(op=Operation.STATUS, status=404, probability=0.02, **always),
        Outdated(probability=0.1, **always),
        Answer(op=Operation.STATUS, status=429, retry_after=0.5, probability=0.002, burst=12, **always),
        Answer(op=Operation.STATUS, status=500, probability=0.02, **always),
        Answer(op=Operation.STATUS, status=200, body="<html>", probability=0.01, **always),
        LoseAnswer(op=Operation.STATUS, probability=0.02, **always),
        Delay(op=Operation.STATUS, seconds=1.0, probability=0.01, **always),
        LoseAnswer(op=Operation.CANCEL, probability=0.3, **always),
        # Webhooks: twice at once, twice a while apart, never.
        CallWebhook(times_each=2, probability=0.2, **always),
        CallWebhook(times_each=2, apart_s=3.0, probability=0.1, **always),
        CallWebhook(times_each=0, probability=0.1, **always),
    ):
        echo.add_fault(fault)


def mixed(mix: Mix, count: int, chance: random.Random) -> None:
    """Jobs of all sorts, under all policies; most of them watched, so that they are polled beside their webhooks."""
    store = runtime_of(ryla_tasks.app).store
    for _ in range(count):
        options = {
            "on_unknown": chance.choice(["fail", "wait", "resubmit"]),
            "priority": chance.choice(["high", "normal", "low"]),
            "user_id": f"user-{chance.randrange(5)}",
        }
        match chance.choices(["plain", "fails", "never", "crash", "big"], [80, 6, 4, 6, 4])[0]:
            case "plain":
                job_id = mix.add(State.COMPLETED, simulate={"seconds": chance.uniform(0, 3)}, **options)
            case "fails":
                job_id = mix.add(State.FAILED, simulate={"fail": "no"}, max_retries=chance.randrange(2), **options)
            case "never":
                # Its deadline may come before it was submitted, and while its answer is waited for.
                deadline_s = chance.uniform(1, 9)
                job_id = mix.add(State.TIMED_OUT, simulate={"never_end": True}, deadline_s=deadline_s, **options)
            case "crash":
                job_id = mix.add(State.COMPLETED, simulate={"seconds": 1, "crash": 1}, **options)
            case _:
                job_id = mix.add(State.COMPLETED, simulate={"seconds": 1}, pad=90_000, **options)
        if not WHOLE or chance.random() < 0.7:
            store.watch(job_id, 3600)


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param(150, id="150"),
        pytest.param(10_000, id="10000", marks=[pytest.mark.chaos, pytest.mark.timeout(1500)]),
    ],
)
def test_mixed_jobs_under_faults(chaos: Fleet, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job ends, with its own result if with any, and nothing is submitted twice but what `resubmit` allows."""
    print(f"seed {SEED}; again with RYLA_CHAOS_SEED={SEED}")
    # A submit is given up as unanswered, and sent again where that is allowed, when its ttl is over.
    endpoint = {
        **json.loads(os.environ["RYLA_ENDPOINT_ECHO"]), "execution_timeout_s": 10, "ttl_s": 10, "max_retries": 8,
    }  # fmt: skip
    with webhooks() as hooks:
        settings = {**hooks, "RYLA_ENDPOINT_ECHO": json.dumps(endpoint)}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        fresh_settings()
        misbehave(chaos)
        mix = Mix(chaos)
        workers = [quick_worker(chaos, **settings) for _ in range(2)]
        mixed(mix, jobs, random.Random(f"{SEED}:mixed"))
        took = mix.wait(1200 if WHOLE else 100)
        assert all(worker.alive() for worker in workers)
        struck = {_named(view.fault): view.struck for view in chaos.endpoint("echo").faults()}
        resubmits = mix.counter("resubmits")
        records = mix.records()
        twice = sum(max(0, count - 1 - records[job].retries) for job, count in mix.remote_jobs().items())
        remark = (
            f"{took:.0f} s, {sum(struck.values())} faults, {mix.unanswered()} unanswered, {resubmits} sent again, of "
            f"which {twice} had been taken"
        )
        print(f"{struck}\n{remark}")
        note(f"{jobs} mixed jobs under faults", jobs, mix.ended(), mix.check(), remark)
    assert twice <= resubmits
    if WHOLE:
        assert all(struck.values()), "each fault struck"
        assert resubmits


def _named(fault: Any) -> str:
    about = {name: getattr(fault, name, None) for name in ("op", "status", "after", "times_each", "apart_s")}
    return " ".join([fault.kind, *(str(value) for value in about.values() if value is not None)])


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
