"""When a job is looked at again: within its bounds, later with age, within the endpoint's limits for the fleet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import OBSERVED, SPECS, SUBMITTED, make_record

from ryla_tasks.jobs.planner import LONGEST_GAP_S, first_gap, next_gap
from ryla_tasks.jobs.record import JobRecord, JobSpec, Observed
from ryla_tasks.jobs.states import State

AGES = st.floats(0, 200_000)


def longest_of(spec: JobSpec) -> float:
    return min(spec.poll_max_s, LONGEST_GAP_S)


@st.composite
def under_way(draw: st.DrawFn) -> JobRecord:
    state = draw(st.sampled_from([State.WAITING, State.STARTING, State.RUNNING, State.COLLECTING]))
    return make_record(state, observed=draw(OBSERVED)).with_(spec=draw(SPECS))


@settings(max_examples=100, deadline=None)
@given(record=under_way(), age=st.floats(-100, 200_000), in_flight=st.integers(0, 100_000), calls=st.floats(0.1, 1_000))
def test_a_gap_is_within_the_bounds_whatever_the_job(
    record: JobRecord, age: float, in_flight: int, calls: float
) -> None:
    gap = next_gap(record, SUBMITTED + age, in_flight=in_flight, calls_per_s=calls)
    assert record.spec.poll_min_s <= gap <= longest_of(record.spec)
    assert record.spec.poll_min_s <= first_gap(record) <= longest_of(record.spec)


@settings(max_examples=100, deadline=None)
@given(
    record=under_way(), ages=st.tuples(AGES, AGES), flights=st.tuples(st.integers(0, 50_000), st.integers(0, 50_000))
)
def test_a_gap_grows_with_age_and_with_the_jobs_in_flight(
    record: JobRecord, ages: tuple[float, float], flights: tuple[int, int]
) -> None:
    younger, older = (
        next_gap(record, SUBMITTED + age, in_flight=flight)
        for age, flight in zip(sorted(ages), sorted(flights), strict=True)
    )
    assert younger <= older


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(),
    in_flight=st.integers(1, 20_000),
    calls=st.floats(1, 1_000),
    longest=st.floats(5, 60),
)
def test_planned_polls_stay_under_the_limit_of_the_whole_fleet(
    data: st.DataObject, in_flight: int, calls: float, longest: float
) -> None:
    """But for jobs that are already polled as seldom as they may be: those the store's meter of calls holds back."""
    record = data.draw(under_way())
    record = record.with_(spec=JobSpec("t", "image", "image", poll_min_s=0.25, poll_max_s=longest))
    gap = next_gap(record, SUBMITTED + data.draw(AGES), in_flight=in_flight, calls_per_s=calls)
    assert in_flight / gap <= 0.8 * calls * (1 + 1e-9) or gap == longest_of(record.spec)


def test_at_the_published_limit_2000_jobs_take_four_fifths_of_it() -> None:
    """2,000 status calls in 10 s, per endpoint."""
    gap = next_gap(make_record(), SUBMITTED, in_flight=2_000, calls_per_s=200.0)
    assert 2_000 / gap == pytest.approx(160.0)


def test_a_lone_new_job_is_asked_after_at_the_shortest_gap() -> None:
    record = make_record(spec_poll_min_s=1.0)
    assert first_gap(record) == 1.0
    assert next_gap(record, SUBMITTED + 2.0) == 1.0


def test_a_waiting_job_is_asked_after_a_tenth_of_its_age_later() -> None:
    record = make_record(spec_poll_max_s=30.0)
    assert next_gap(record, SUBMITTED + 50.0) == pytest.approx(5.0)


@pytest.mark.parametrize(("percent", "run", "gap"), [(50.0, 20.0, 10.0), (80.0, 40.0, 5.0), (10.0, 2.0, 9.0)])
def test_half_of_what_is_left_where_the_percentage_is_known(percent: float, run: float, gap: float) -> None:
    record = make_record(State.RUNNING, observed_percent=percent, observed_running_since=SUBMITTED + 100.0)
    assert next_gap(record, SUBMITTED + 100.0 + run) == pytest.approx(gap)


def test_near_its_expected_end_a_job_is_asked_after_at_the_shortest_gap() -> None:
    record = make_record(State.RUNNING, observed_percent=98.0, observed_running_since=SUBMITTED)
    assert next_gap(record, SUBMITTED + 60.0) == record.spec.poll_min_s


def test_a_running_job_without_percentage_is_asked_after_a_tenth_of_its_run() -> None:
    record = make_record(State.RUNNING, observed_running_since=SUBMITTED + 400.0)
    assert next_gap(record, SUBMITTED + 450.0) == pytest.approx(5.0)


def test_after_trouble_the_gap_doubles_whatever_the_age() -> None:
    gaps = [
        next_gap(make_record(spec_poll_max_s=30.0, observed=Observed(troubles=troubles)), SUBMITTED + 5_000.0)
        for troubles in (1, 2, 3, 4, 5, 1_000)
    ]
    assert gaps == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_no_setting_makes_a_gap_longer_than_30_seconds() -> None:
    record = make_record(spec_poll_min_s=25.0, spec_poll_max_s=3_600.0)
    assert next_gap(record, SUBMITTED + 100_000.0, in_flight=10**6) == LONGEST_GAP_S == 30.0
