"""Workers killed at any moment, all at once or one after the other: no job is lost, and none is submitted twice."""

from __future__ import annotations

import random
import signal
import time

import pytest

from ryla_tasks.jobs.states import State
from tests.support.chaos.mix import Mix
from tests.support.chaos.report import SEED, note
from tests.support.chaos.victims import quick_worker
from tests.support.fleet import Fleet, WorkerProcess, eventually

#: What is promised after a restart.
WITHIN_S = 15.0

#: A poll that was under way when its worker died was due so long before its lease ends.
POLL_LEASE_S = 8.0

POLLS = "ryla:due:poll:runpod:echo"


def poll_scores(fleet: Fleet) -> dict[bytes, float]:
    return dict(fleet.client.zrange(POLLS, 0, -1, withscores=True))


def redis_now(fleet: Fleet) -> float:
    seconds, micros = fleet.client.time()
    return float(seconds * 1_000_000 + micros)


def lateness(fleet: Fleet, scores: dict[bytes, float], restarted: float) -> dict[bytes, float]:
    """Seconds from each job's due time (or the restart, where that is later) to the poll, seen from outside: a poll
    has been settled when the job has a due time again that is no lease, or waits for polls no more."""
    due = {
        job: max(restarted, score if score % 1000 == 0 else score - POLL_LEASE_S * 1e6) for job, score in scores.items()
    }
    seen: dict[bytes, float] = {}

    def all_polled() -> bool:
        now, current = redis_now(fleet), poll_scores(fleet)
        for job in due.keys() - seen.keys():
            score = current.get(job)
            if score is None or (score % 1000 == 0 and score > scores[job]):
                seen[job] = (now - due[job]) / 1e6
        return len(seen) == len(due)

    eventually(all_polled, timeout=60, every=0.3, what="all polled")
    return seen


@pytest.mark.parametrize(
    ("jobs", "seconds"),
    [
        pytest.param(300, 14.0, id="300"),
        pytest.param(5000, 200.0, id="5000", marks=[pytest.mark.chaos, pytest.mark.timeout(900)]),
    ],
)
def test_all_workers_killed_with_jobs_in_flight(chaos: Fleet, jobs: int, seconds: float) -> None:
    """Every job whose poll is due has been polled 15 s after the restart; the start of Python counts."""
    mix = Mix(chaos)
    mix.plain(jobs, seconds)
    workers = [chaos.worker("--concurrency", "4") for _ in range(2)]
    states = (State.WAITING, State.STARTING, State.RUNNING)
    eventually(lambda: sum(mix.states()[s] for s in states) == jobs, timeout=seconds, every=0.2, what="all in flight")
    for worker in workers:
        worker.kill()
    scores = poll_scores(chaos)
    assert len(scores) == jobs
    # Until all that was held is due, and no worker is there to do it.
    eventually(lambda: redis_now(chaos) > max(scores.values()) or jobs < 1000, timeout=20)
    restarted = redis_now(chaos)
    again = [chaos.worker("--concurrency", "4") for _ in range(2)]
    late = lateness(chaos, scores, restarted)
    worst = max(late.values())
    mix.wait(seconds + 120)
    eventually(lambda: any("recovery.done" in worker.text for worker in again), timeout=30, what="recovery.done")
    note(f"SIGKILL of all workers, {jobs} in flight", jobs, mix.ended(), mix.check(), f"last poll after {worst:.1f} s")
    assert worst <= WITHIN_S
    assert mix.counter("attempts") == jobs
    assert mix.unanswered() == 0


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments(chaos: Fleet, seed: int) -> None:
    """Three workers; every second or so one is killed in whatever it is doing, for half a minute."""
    chance = random.Random(f"{SEED}:random:{seed}")
    print(f"seed {SEED}:{seed}")
    mix = Mix(chaos)
    workers = [quick_worker(chaos) for _ in range(3)]
    kills, end = 0, time.monotonic() + 30
    while time.monotonic() < end:
        mix.plain(chance.randrange(1, 12), chance.uniform(0.1, 3))
        if chance.random() < 0.2:
            mix.add(State.FAILED, simulate={"fail": "no"}, max_retries=1)
        if chance.random() < 0.2:
            mix.add(State.TIMED_OUT, simulate={"never_end": True}, deadline_s=chance.uniform(2, 8))
        victim: WorkerProcess = workers.pop(chance.randrange(len(workers)))
        moment = time.monotonic() + chance.uniform(0.2, 2)
        eventually(lambda t=moment: time.monotonic() > t, every=0.01)
        victim.kill()
        kills += 1
        workers.append(quick_worker(chaos))
    took = mix.wait(90)
    note(
        f"random SIGKILLs ({kills})", len(mix), mix.ended(), mix.check(), f"{took:.0f} s, {mix.unanswered()} unanswered"
    )


@pytest.mark.chaos
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("warm", (signal.SIGTERM,)),
        ("soft", (signal.SIGQUIT,)),
        ("cold", (signal.SIGQUIT, signal.SIGQUIT)),
        ("warm, then soft", (signal.SIGTERM, signal.SIGQUIT)),
        ("interrupted twice", (signal.SIGINT, signal.SIGINT)),
    ],
)
def test_shutdowns(chaos: Fleet, name: str, numbers: tuple[int, ...]) -> None:
    """A worker that is told to stop with its hands full leaves nothing behind that another cannot finish."""
    chaos.endpoint("echo").update(run_s=1.0)
    mix = Mix(chaos)
    mix.plain(60, 2.0)
    worker = quick_worker(chaos).wait_ready()
    eventually(lambda: mix.states()[State.QUEUED] < 40, what="some submitted")
    for number in numbers:
        worker.signal(number)
    began = time.monotonic()
    eventually(lambda: not worker.alive(), timeout=60, every=0.05, what="stopped")
    stopped = time.monotonic() - began
    quick_worker(chaos)
    took = mix.wait(90)
    note(
        f"{name} shutdown", len(mix), mix.ended(), mix.check(), f"stopped in {stopped:.1f} s, all ended in {took:.0f} s"
    )
    assert mix.unanswered() == 0 or name != "warm"
