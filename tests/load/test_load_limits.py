"""Limits under load: no 429, no wait that the limits do not make necessary, and no user before the others."""

from __future__ import annotations

import json
import time
from bisect import bisect_right

import pytest

import ryla_tasks
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Delay
from tests.support.fleet import Fleet, eventually


def limited(run_per_10s: int) -> dict[str, str]:
    """The settings of a worker that may submit so often."""
    limits = {"run_per_10s": run_per_10s}
    return {"RYLA_ENDPOINT_ECHO": json.dumps({"targets": [{"endpoint_id": "echo", "limits": limits}]})}


def send(count: int, user_id: str) -> list[str]:
    wish = {"simulate": {"seconds": 0.5}}
    return [ryla_tasks.run_endpoint.delay("echo", wish, user_id=user_id).id for _ in range(count)]


def submitted(fleet: Fleet) -> int:
    return fleet.endpoint("echo").counters().accepted


def records(ids: list[str]) -> list[JobRecord]:
    return [ryla_tasks.Job.get(job_id).record for job_id in ids]


def most_in_10s(times: list[float]) -> int:
    """The most of these moments within any ten seconds."""
    times = sorted(times)
    return max(bisect_right(times, moment + 10.0) - place for place, moment in enumerate(times))


@pytest.mark.parametrize(
    ("jobs", "run_per_10s", "workers"),
    [
        pytest.param(76, 100, 1, id="76"),
        pytest.param(5_000, 1_000, 2, id="5000", marks=[pytest.mark.load, pytest.mark.timeout(600)]),
    ],
)
def test_a_burst_of_two_users_meets_no_429_and_goes_as_fast_as_it_may(
    fleet: Fleet, jobs: int, run_per_10s: int, workers: int
) -> None:
    """All jobs are enqueued before the first worker comes, half of them each user's."""
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    ids = send(jobs // 2, "ann") + send(jobs // 2, "bob")
    started = [fleet.worker("--concurrency", "4", **limited(run_per_10s)) for _ in range(workers)]
    for worker in started:
        worker.wait_ready()
    burst = run_per_10s // 10
    needed = (jobs - burst) / (run_per_10s - burst) * 10
    eventually(lambda: submitted(fleet) == jobs, timeout=3 * needed + 30, every=0.1)
    eventually(
        lambda: all(fleet.client.zcard(f"ryla:idx:state:{s}") == 0 for s in (State.QUEUED, State.SUBMITTING)), every=0.1
    )
    done = records(ids)
    times = [record.submitted for record in done]
    took = max(times) - min(times)
    print(f"jobs={jobs} took_s={took:.1f} needed_s={needed:.1f} most_in_10s={most_in_10s(times)}")
    counters = fleet.endpoint("echo").counters()
    assert counters.calls["run"] == {200: jobs}, "no 429, no other answer"
    assert counters.duplicates == 0
    assert most_in_10s(times) <= run_per_10s + 4  # moments are those of the answers
    assert took <= 1.15 * needed + 2
    halves = [sorted(r.submitted for r in done if r.spec.user_id == user) for user in ("ann", "bob")]
    middle = [times_of[len(times_of) // 2] for times_of in halves]
    assert abs(middle[0] - middle[1]) < 0.1 * needed + 1, "users take turns"


@pytest.mark.parametrize(
    ("jobs", "call_s", "within_s"),
    [
        pytest.param(280, 0.3, 12.0, id="280"),
        pytest.param(2_000, 0.5, 30.0, id="2000", marks=[pytest.mark.load, pytest.mark.timeout(300)]),
    ],
)
def test_an_endpoint_that_takes_its_time_to_answer_gets_jobs_as_fast_as_it_may(
    fleet: Fleet, jobs: int, call_s: float, within_s: float
) -> None:
    """A worker has three slots for submits: one after the other they would take 28 s for the 280 here, and for the
    2,000 three minutes, where the limits make 2 and 21 s necessary."""
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    fleet.endpoint("echo").add_fault(Delay(op="run", seconds=call_s, times=None))
    ids = send(jobs, "ann")
    workers = [fleet.worker("--concurrency", "4", **limited(1_000)).wait_ready() for _ in range(1 + jobs // 1_000)]
    needed = (jobs - 100) / 90
    eventually(lambda: fleet.client.zcard("ryla:idx:state:queued") == 0, timeout=3 * needed + 30)
    eventually(lambda: fleet.client.zcard("ryla:idx:state:submitting") == 0)
    times = [record.submitted for record in records(ids)]
    took = max(times) - min(times)
    print(f"jobs={jobs} call_s={call_s} took_s={took:.1f} needed_s={needed:.1f} workers={len(workers)}")
    counters = fleet.endpoint("echo").counters()
    assert counters.calls["run"] == {200: jobs}
    assert counters.duplicates == 0
    assert took <= within_s


@pytest.mark.parametrize(
    ("jobs", "run_per_10s"),
    [
        pytest.param(200, 50, id="200"),
        pytest.param(5_000, 1_000, id="5000", marks=[pytest.mark.load, pytest.mark.timeout(600)]),
    ],
)
def test_a_job_is_submitted_within_five_seconds_behind_another_users_thousands(
    fleet: Fleet, jobs: int, run_per_10s: int
) -> None:
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    worker = fleet.worker("--concurrency", "4", **limited(run_per_10s)).wait_ready()
    send(jobs, "ann")
    eventually(lambda: submitted(fleet) >= run_per_10s // 10 + 1)
    begun = time.monotonic()
    (bobs,) = send(1, "bob")
    eventually(lambda: records([bobs])[0].remote_id, timeout=5, what="bob's job submitted")
    print(f"bob waited {time.monotonic() - begun:.2f} s behind {jobs - submitted(fleet)} of ann's")
    assert submitted(fleet) < jobs, "ann's were still in line"
    assert worker.alive()


def test_a_line_needs_few_messages(fleet: Fleet) -> None:
    """Jobs in line are carried on by one outstanding message: no storm, and no busy loop."""
    fleet.reset(workers_min=200, workers_max=200)
    worker = fleet.worker("--concurrency", "4", **limited(20)).wait_ready()
    send(60, "ann")
    eventually(lambda: fleet.client.hget("ryla:counters", "submits_delayed"))
    before = worker.text.count("ryla.submit_line")
    begun = time.monotonic()
    was = submitted(fleet)
    eventually(lambda: submitted(fleet) >= was + 8)
    lines = worker.text.count("Task ryla.submit_line") - before
    seconds = time.monotonic() - begun
    print(f"{lines} log lines of wake messages in {seconds:.1f} s")
    assert lines <= 2 * (4 * seconds + 5)
    assert int(fleet.client.hget("ryla:counters", "recovered_messages") or 0) == 0
