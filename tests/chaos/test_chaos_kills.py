"""Workers killed at any moment, all at once or one after the other: no job is lost, and none is submitted twice."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from bisect import bisect_right

import pytest

from ryla_tasks.jobs.states import State
from tests.conftest import fresh_settings
from tests.support.chaos.mix import Mix
from tests.support.chaos.report import SEED, note
from tests.support.chaos.victims import quick_worker
from tests.support.fleet import ENDPOINTS, Fleet, WorkerProcess, eventually

#: What is promised after a restart, the start of Python included.
WITHIN_S = 15.0

#: How much of that the start of two workers may take on a machine that has other things to do.
START_S = 5.0

#: A poll that was under way when its worker died was due so long before its lease ends.
POLL_LEASE_S = 8.0

#: Status calls to one target in ten seconds, as RunPod publishes them, and how we share them out: a tenth as a burst.
PER_10S = 2000
BURST, PER_S = PER_10S // 10, 0.9 * PER_10S / 10


def poll_scores(fleet: Fleet, endpoints: tuple[str, ...]) -> dict[bytes, float]:
    """When each job is due to be polled, or the end of its lease."""
    found: dict[bytes, float] = {}
    for name in endpoints:
        found |= fleet.client.zrange(f"ryla:due:poll:runpod:{ENDPOINTS[name][0]}", 0, -1, withscores=True)
    return found


def redis_now(fleet: Fleet) -> float:
    seconds, micros = fleet.client.time()
    return float(seconds * 1_000_000 + micros)


def lateness(mix: Mix, scores: dict[bytes, float], restarted: float, timeout: float) -> list[float]:
    """Seconds from each job's due time (or the restart, where that is later) to the poll, seen from outside: a poll
    has been settled when the job has a due time again that is no lease, or waits for polls no more."""
    due = {
        job: max(restarted, score if score % 1000 == 0 else score - POLL_LEASE_S * 1e6) for job, score in scores.items()
    }
    seen: dict[bytes, float] = {}

    def all_polled() -> bool:
        now, current = redis_now(mix.fleet), poll_scores(mix.fleet, mix.endpoints)
        for job in due.keys() - seen.keys():
            score = current.get(job)
            if score is None or (score % 1000 == 0 and score > scores[job]):
                seen[job] = (now - due[job]) / 1e6
        return len(seen) == len(due)

    eventually(all_polled, timeout=timeout, every=0.2, what="all polled")
    return sorted(seen.values())


def kill_and_restart(fleet: Fleet, mix: Mix, *, most_s: float) -> tuple[list[float], list[WorkerProcess]]:
    """With all jobs of a mix in flight: SIGKILL all workers, start as many again; how late each poll was, sorted."""
    begun = time.monotonic()
    workers = [fleet.worker("--concurrency", "4") for _ in range(2)]
    states = (State.WAITING, State.STARTING, State.RUNNING)
    in_flight = len(mix)
    eventually(lambda: sum(mix.states()[s] for s in states) == in_flight, timeout=most_s, every=0.2, what="in flight")
    print(f"in flight after {time.monotonic() - begun:.0f} s")
    for worker in workers:
        worker.kill()
    scores = poll_scores(fleet, mix.endpoints)
    assert len(scores) == in_flight
    # Until all that was held is due, and no worker is there to do it.
    eventually(lambda: redis_now(fleet) > max(scores.values()) or in_flight < 1000, timeout=40, every=0.1)
    restarted = redis_now(fleet)
    again = [fleet.worker("--concurrency", "4") for _ in range(2)]
    return lateness(mix, scores, restarted, timeout=60), again


def by_published_limits(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, endpoints: tuple[str, ...], jobs: int) -> None:
    """RunPod's published limits, here and at the simulator; the gaps between polls are those of production."""
    for name in endpoints:
        target = {"endpoint_id": ENDPOINTS[name][0], "execution_timeout_s": 600, "ttl_s": 900, "deadline_s": 1200}
        monkeypatch.setenv(f"RYLA_ENDPOINT_{name.upper()}", json.dumps(target))
        fleet.endpoint(name).update(program="echo", rate_limits=True, workers_min=jobs, workers_max=jobs)
    fresh_settings()


def refused(fleet: Fleet, mix: Mix) -> int:
    """How many calls an endpoint answered with 429."""
    calls = [codes for name in mix.endpoints for codes in fleet.endpoint(name).counters().calls.values()]
    return sum(codes.get(429, 0) for codes in calls)


@pytest.mark.parametrize(
    ("jobs", "seconds", "endpoints"),
    [
        pytest.param(300, 20.0, ("echo",), id="300"),
        pytest.param(
            5000, 150.0, ("echo", "lora", "special"), id="5000", marks=[pytest.mark.chaos, pytest.mark.timeout(900)]
        ),
    ],
)
def test_all_workers_killed_with_jobs_in_flight(
    chaos: Fleet, monkeypatch: pytest.MonkeyPatch, jobs: int, seconds: float, endpoints: tuple[str, ...]
) -> None:
    """Every job whose poll is due has been polled 15 s after the restart; the start of Python counts."""
    by_published_limits(chaos, monkeypatch, endpoints, jobs)
    mix = Mix(chaos, endpoints)
    mix.plain(jobs, seconds)
    late, again = kill_and_restart(chaos, mix, most_s=seconds)
    mix.wait(seconds + 200)
    eventually(lambda: any("recovery.done" in worker.text for worker in again), timeout=30, what="recovery.done")
    remark = f"first poll after {late[0]:.1f} s, last after {late[-1]:.1f} s, load {os.getloadavg()[0]:.1f}"
    note(f"SIGKILL of all workers, {jobs} in flight", jobs, mix.ended(), mix.check(), remark)
    print(remark)
    assert late[-1] <= WITHIN_S
    assert refused(chaos, mix) == 0
    assert mix.counter("attempts") == jobs
    assert mix.unanswered() == 0


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_all_workers_killed_with_more_jobs_at_one_target_than_its_limit_lets_be_polled(
    chaos: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5,000 at one target: as many in 15 s, and all of them as soon, as its limit of status calls makes possible."""
    jobs, seconds = 5000, 150.0
    by_published_limits(chaos, monkeypatch, ("echo",), jobs)
    mix = Mix(chaos)
    mix.plain(jobs, seconds)
    late, _again = kill_and_restart(chaos, mix, most_s=seconds)
    mix.wait(seconds + 200)
    in_time = bisect_right(late, WITHIN_S)
    remark = f"{in_time} polled in {WITHIN_S:.0f} s, first after {late[0]:.1f} s, last after {late[-1]:.1f} s"
    note(f"SIGKILL of all workers, {jobs} at one target", jobs, mix.ended(), mix.check(), remark)
    print(f"{remark}, load {os.getloadavg()[0]:.1f}")
    assert late[0] <= START_S
    assert in_time >= 0.9 * (BURST + PER_S * (WITHIN_S - late[0]))
    assert late[-1] - late[0] <= 1.05 * (jobs - BURST) / PER_S + 1
    assert refused(chaos, mix) == 0
    assert mix.counter("attempts") == jobs


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
