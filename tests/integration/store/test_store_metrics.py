"""What is counted for the exporter: each thing once, in the step that does it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from store_world import ENDPOINT, FREE, TARGET, World, collecting, completed, failed, retried

from ryla_tasks.errors import JobFailed
from ryla_tasks.jobs.ending import error_ending
from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Candidate, Rate, Refused
from ryla_tasks.store.buckets import BUCKETS
from ryla_tasks.store.budgets import Terms
from ryla_tasks.store.metrics import Histogram, MetricStore, Snapshot

JOB = ("image", ENDPOINT)
ATTEMPT = (*JOB, TARGET)


def seen(world: World) -> Snapshot:
    return MetricStore(world.client, prefix="ryla").snapshot([TARGET], [ENDPOINT])


def total(histogram: Histogram) -> int:
    return sum(histogram.counts.values())


def with_times(record: JobRecord, *, cold: bool = False, delay_ms: int = 0, execution_ms: int = 0) -> JobRecord:
    return record.with_(observed=replace(record.observed, cold=cold, delay_ms=delay_ms, execution_ms=execution_ms))


def test_a_job_that_completes_after_a_cold_start(world: World) -> None:
    job = world.waiting()
    ride = world.ride()
    record = with_times(ride.records[0], cold=True, delay_ms=40_000)
    world.settle(ride, Decision(record.with_(state=State.RUNNING), Step.POLL))
    ride = world.ride()
    world.settle(ride, collecting(with_times(ride.records[0], cold=True, delay_ms=40_000, execution_ms=7_000)))
    world.store.settle(world.collect(job), completed(world.record(job)))
    found = seen(world)
    assert found.tallies["created"] == {JOB: 1}
    assert found.tallies["ended"] == {(*JOB, "completed", "none"): 1}
    assert found.tallies["attempts"] == {(*ATTEMPT, "completed", "yes"): 1}
    assert found.histograms["cold_start"] == {ATTEMPT: Histogram({"45": 1}, 40.0)}
    assert found.histograms["queue_wait"] == {}
    assert found.histograms["run"] == {ATTEMPT: Histogram({"10": 1}, 7.0)}
    assert total(found.histograms["job"][JOB]) == 1
    assert total(found.histograms["line_wait"][(ENDPOINT,)]) == 1
    assert total(found.histograms["poll_lateness"][(TARGET,)]) == 2, "one for each poll"


def test_what_comes_twice_counts_once(world: World) -> None:
    job = world.waiting()
    ride = world.ride()
    world.settle(ride, failed(ride.records[0]))
    before = world.client.hgetall("ryla:metric:ended"), world.client.hgetall("ryla:metric:attempts")
    assert world.settle(ride, failed(ride.records[0])).counted == (False,)
    world.make(job)
    assert world.store.cancel(job)[0] == "over"
    assert (world.client.hgetall("ryla:metric:ended"), world.client.hgetall("ryla:metric:attempts")) == before
    found = seen(world)
    assert found.tallies["ended"] == {(*JOB, "failed", "failed"): 1}
    assert found.tallies["created"] == {JOB: 1}
    assert found.tallies["exhausted"] == {}, "it was not tried again"


def test_a_job_that_failed_although_it_was_tried_again(world: World) -> None:
    job = world.waiting()
    ride = world.ride()
    world.settle(ride, retried(ride.records[0]))
    world.accept(world.claim(job).record)
    ride = world.ride()
    world.settle(ride, failed(ride.records[0]))
    found = seen(world)
    assert found.tallies["exhausted"] == {JOB: 1}
    assert found.tallies["attempts"] == {(*ATTEMPT, "failed", "no"): 2}
    assert found.tallies["ended"] == {(*JOB, "failed", "failed"): 1}
    assert found.counters["job_retries"] == 1


def test_one_that_was_tried_again_and_cancelled_did_not_fail(world: World) -> None:
    job = world.waiting()
    ride = world.ride()
    world.settle(ride, retried(ride.records[0], 60.0))
    world.store.cancel(job)
    found = seen(world)
    assert found.tallies["exhausted"] == {}
    assert found.tallies["ended"] == {(*JOB, "cancelled", "cancelled"): 1}


@pytest.mark.parametrize(
    ("reason", "outcome"), [(CancelReason.USER, "cancelled"), (CancelReason.DEADLINE, "timed_out")]
)
def test_the_code_of_a_stop(world: World, reason: CancelReason, outcome: str) -> None:
    world.store.cancel(world.job(), reason)
    code = "deadline" if reason is CancelReason.DEADLINE else "cancelled"
    assert seen(world).tallies["ended"] == {(*JOB, outcome, code): 1}


def test_odd_words_in_an_error_are_no_code(world: World) -> None:
    for details in ('", "code": "no', "\ud800 half a character", {"code": "inner one"}):
        world.waiting()
        ride = world.ride()
        ending = error_ending(JobFailed, 'It said "code": "mine" and \\"code": "x"', code="own_code", details=details)
        after = ride.records[0].with_(state=State.FAILED, ending=ending)
        world.settle(ride, Decision(after, Step.DELIVER))
    assert seen(world).tallies["ended"] == {(*JOB, "failed", "own_code"): 3}


def test_what_a_job_cost_counts_at_its_end(world: World) -> None:
    here = (Candidate(TARGET, FREE, Terms(0.5, 0.0, run_s=2.0)),)
    job = world.job()
    claim = world.store.claim_submit(ENDPOINT, here, job_id=job, lease_s=20.0)
    assert not isinstance(claim, Refused)
    world.accept(claim.record)
    assert seen(world).tallies["cost"] == {}
    ride = world.ride()
    record = ride.records[0]
    world.settle(ride, failed(record.with_(money=replace(record.money, paid=250_000, reserved=0))))
    assert seen(world).tallies["cost"] == {JOB: 250_000}


def test_lateness_is_counted_by_the_ride(world: World) -> None:
    jobs = [world.waiting() for _ in range(40)]
    for job in jobs[:3]:
        world.past("due:poll:" + TARGET, job, 7.0)
    world.past("due:poll:" + TARGET, jobs[3], 1_000.0)
    with_it = world.client.info("commandstats").get("cmdstat_hincrby", {"calls": 0})["calls"]
    world.ride()
    spent = world.client.info("commandstats")["cmdstat_hincrby"]["calls"] - with_it
    found = seen(world).histograms["poll_lateness"][(TARGET,)]
    assert (total(found), found.counts["10"], found.counts["+Inf"]) == (40, 3, 1)
    assert 1_021 <= found.sum < 1_040
    # Some buckets (on a slow machine not all others are in one), the sum, and the two counters of late ones.
    assert spent < 12, "nothing is counted for each job"


def test_waits_for_the_limits(world: World) -> None:
    slow = Rate(per_s=1, burst=1, under_way=10)
    world.claim(world.job(), rate=slow)
    other = world.job()
    refused = world.store.claim_submit(ENDPOINT, (Candidate(TARGET, slow),), job_id=other, lease_s=20.0)
    assert isinstance(refused, Refused)
    for _ in range(2):
        world.waiting()
    assert len(world.ride(rate=slow).records) == 1
    assert not world.ride(rate=slow).records
    assert world.store.take_call(TARGET, "cancel", slow, lease_s=5.0, wanted="cancel|x")
    assert world.store.take_call(TARGET, "cancel", slow, lease_s=5.0, wanted="cancel|x") is None
    found = seen(world).histograms["limiter_wait"]
    assert {at: total(waits) for at, waits in found.items()} == {
        (TARGET, "run"): 1, (TARGET, "status"): 1, (TARGET, "cancel"): 1,
    }  # fmt: skip
    assert all(0.1 < waits.sum <= 1.5 for waits in found.values())


def test_what_stands_where(world: World) -> None:
    queued, waiting = world.job(), world.waiting()
    world.at(State.COLLECTING)
    world.past("due:submit:" + ENDPOINT, queued, 30.0)
    world.past("due:poll:" + TARGET, waiting, 20.0)
    found = seen(world)
    assert (found.states[State.QUEUED], found.states[State.WAITING], found.states[State.COLLECTING]) == (1, 1, 1)
    assert found.kept == 3
    assert (found.lines[ENDPOINT].jobs, found.targets[TARGET].at.jobs, found.deliveries.jobs) == (1, 1, 1)
    assert 30 <= found.lines[ENDPOINT].overdue_s < 40
    assert 20 <= found.targets[TARGET].at.overdue_s < 30
    world.ride()
    assert seen(world).targets[TARGET].at.overdue_s == 0, "somebody has it"


def test_targets_that_left_the_settings_are_told_while_jobs_are_there(world: World) -> None:
    world.waiting()
    found = MetricStore(world.client, prefix="ryla").snapshot([], [])
    assert list(found.targets) == [TARGET]


def test_workers_are_those_that_sweep(world: World) -> None:
    for name in ("a", "b", "a"):
        world.store.sweep(grace_s=1.0, most=200, most_resends=64, worker=name)
    world.sweep()
    assert seen(world).workers == 2
    world.client.zadd("ryla:workers", {"a": (world.now() - 30) * 1e6})
    assert seen(world).workers == 1
    world.client.zadd("ryla:workers", {"a": (world.now() - 70) * 1e6})
    world.store.sweep(grace_s=1.0, most=200, most_resends=64, worker="b")
    assert world.client.zcard("ryla:workers") == 1


def test_looking_changes_nothing(world: World) -> None:
    for state in (State.QUEUED, State.RUNNING, State.COMPLETED):
        world.at(state)
    before = world.dump()
    seen(world)
    assert world.dump() == before


def test_a_histogram_adds_up_to_its_bounds_also_after_they_have_changed() -> None:
    counts = dict(Histogram({"0.1": 2, "0.3": 5, "60": 1, "+Inf": 4}).cumulated("limiter_wait"))
    assert list(counts) == [*BUCKETS["limiter_wait"], math.inf]
    assert (counts[0.05], counts[0.1], counts[0.25], counts[0.5]) == (0, 2, 2, 7)
    assert (counts[30], counts[60], counts[math.inf]) == (7, 8, 12)
