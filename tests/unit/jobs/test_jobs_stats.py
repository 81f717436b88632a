"""A target's history from its samples, and the advice that follows from it."""

from __future__ import annotations

import pytest
from job_samples import NOW, RETRYING, SUBMITTED, make_record, remote

from ryla_tasks.jobs.advice import advise
from ryla_tasks.jobs.ending import result_ending
from ryla_tasks.jobs.lifecycle import Seen, advance
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import EndpointStats, Sample, Spread, sample_of

DAY = 86_400.0


def test_a_completed_job_leaves_one_sample_at_its_end() -> None:
    running = make_record(State.RUNNING, observed_cold=True)
    collecting = running.with_(state=State.COLLECTING)
    assert sample_of(running, collecting) is None
    ending = result_ending({"timings": {"waited_s": 61.2, "executed_s": 8.4}})
    done = collecting.with_(state=State.COMPLETED, ending=ending)
    assert sample_of(collecting, done) == Sample(SUBMITTED, State.COMPLETED, cold=True, delay_s=61.2, run_s=8.4)


def test_each_failed_attempt_leaves_a_sample() -> None:
    running = make_record(State.RUNNING, observed_delay_ms=2_000)
    failed = remote(RemoteStatus.FAILED, error="boom", delay_ms=2_000)
    retried = advance(running, Seen(failed), NOW, RETRYING).record
    assert retried.state is State.QUEUED
    assert sample_of(running, retried) == Sample(SUBMITTED, State.FAILED, delay_s=2.0)
    assert sample_of(running, running.with_(state=State.TIMED_OUT)) == Sample(SUBMITTED, State.TIMED_OUT, delay_s=2.0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (State.QUEUED, State.SUBMITTING),
        (State.QUEUED, State.EXPIRED),
        (State.SUBMITTING, State.QUEUED),
        (State.SUBMITTING, State.FAILED),
        (State.WAITING, State.RUNNING),
        (State.RUNNING, State.RUNNING),
    ],
)
def test_nothing_else_leaves_one(before: State, after: State) -> None:
    assert sample_of(make_record(before), make_record(after)) is None


def test_a_wait_of_a_moment_is_no_cold_start() -> None:
    waiting = make_record(State.WAITING, observed_cold=True, observed_delay_ms=400)
    sample = sample_of(waiting, waiting.with_(state=State.FAILED))
    assert sample is not None
    assert not sample.cold


def test_a_sample_survives_redis_and_is_small() -> None:
    sample = Sample(1_790_000_000.1, State.COMPLETED, cold=True, delay_s=61.234, run_s=None)
    assert Sample.from_json(sample.to_json().encode()) == sample
    assert len(sample.to_json()) < 60


def test_jobs_behind_one_cold_start_count_as_one() -> None:
    samples = [
        Sample(0.0, State.COMPLETED, cold=True, delay_s=60.0, run_s=5.0),
        Sample(50.0, State.COMPLETED, cold=True, delay_s=15.0, run_s=5.0),
        Sample(55.0, State.COMPLETED, cold=True, delay_s=15.0, run_s=5.0),
        Sample(500.0, State.COMPLETED, cold=True, delay_s=90.0, run_s=5.0),
        Sample(600.0, State.COMPLETED, delay_s=1.0, run_s=5.0),
    ]
    stats = EndpointStats.of(samples)
    assert (stats.cold.count, stats.cold_jobs, stats.cold_wait_s) == (2, 4, 180.0)
    assert (stats.cold.p50, stats.cold.p95, stats.cold_share) == (60.0, 90.0, 0.8)
    assert EndpointStats.of(samples[::-1]) == stats


def test_percentiles_are_values_that_did_occur() -> None:
    spread = Spread.of([*range(1, 101), None])
    assert (spread.count, spread.low, spread.p50, spread.high, spread.p95) == (100, 20, 50, 80, 95)
    assert Spread.of([None]) == Spread()
    one = Spread.of([7.0])
    assert (one.low, one.p50, one.p95, one.enough) == (7.0, 7.0, 7.0, False)


def test_a_cancelled_job_is_no_failure() -> None:
    outcomes = [State.COMPLETED, State.COMPLETED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.CANCELLED]
    assert EndpointStats.of([Sample(0.0, outcome) for outcome in outcomes]).failure_rate == 0.5
    assert EndpointStats.of([Sample(0.0, State.CANCELLED)]).failure_rate is None
    assert EndpointStats.of([]).to_json()["cold_share"] is None


def history(days: float, jobs: int, cold_every: int) -> EndpointStats:
    return EndpointStats.of(
        [
            Sample(n * days * DAY / jobs, State.COMPLETED, cold=n % cold_every == 0, delay_s=60.0, run_s=10.0)
            for n in range(jobs)
        ]
    )


def test_a_warm_worker_is_weighed_against_what_it_would_have_saved() -> None:
    advice = advise(history(days=4, jobs=400, cold_every=10), 0.0003, now=4 * DAY)
    assert (advice.cold_starts, advice.cold_wait_s, advice.saved_s_a_day) == (40, 2_400.0, 600.0)
    assert advice.cost_a_day == pytest.approx(25.92)
    assert advice.cost_a_month == pytest.approx(777.6)
    assert advice.extra_a_day == pytest.approx(25.92 - 1_000 * 0.0003)
    assert advice.usd_per_saved_hour == pytest.approx(25.62 * 6)
    assert advice.sentence == (
        "In 4.0 days a warm worker would have saved at most 40 cold starts, 40.0 minutes of waiting, for $25.62 more "
        "a day, $153.72 for each hour."
    )


def test_too_little_history_gives_no_number_for_a_day() -> None:
    for stats, now in ((history(0.5, 100, 5), DAY / 2), (history(5, 10, 5), 5 * DAY)):
        advice = advise(stats, 0.0003, now)
        assert (advice.saved_s_a_day, advice.extra_a_day, advice.usd_per_saved_hour) == (None, None, None)
        assert advice.sentence.startswith("Too little history")
        assert advice.cost_a_day == pytest.approx(25.92)
    assert advise(EndpointStats(), 0.0003, NOW).sentence.startswith("No history yet")


def test_advice_without_a_price_or_without_a_cold_start() -> None:
    unpriced = advise(history(4, 400, 10), None, 4 * DAY)
    assert unpriced.to_json()["cost_a_day_usd"] is None
    assert unpriced.sentence.endswith("Its cost is not known: set gpu or price_per_s.")
    warm = EndpointStats.of([Sample(n * 4_000.0, State.COMPLETED, delay_s=1.0, run_s=1.0) for n in range(30)])
    idle = advise(warm, 0.0003, 2 * DAY)
    assert idle.sentence == "No cold start in 2.0 days: a warm worker would have saved nothing."
