"""What a job costs: of its runs, of a worker's start, of earlier attempts; and when it costs more than it may."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_samples import NOW, PLAIN, RETRYING, SUBMITTED, TRUNCATED, make_record, remote

from ryla_tasks.errors import AnswerLost, BudgetExceeded, NotConnected, ServerError
from ryla_tasks.jobs.cost import ColdStart, estimate, expecting, is_unaffordable, so_far
from ryla_tasks.jobs.ending import raised, result_ending
from ryla_tasks.jobs.lifecycle import (
    Collected,
    Missing,
    NoAnswer,
    NotAccepted,
    OutcomeUnknown,
    OutputBad,
    Seen,
    StillUnknown,
    Trouble,
    Uncollected,
    advance,
)
from ryla_tasks.jobs.money import Money, dollars, micro
from ryla_tasks.jobs.record import CancelReason, JobRecord, OnUnknown
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State

IN_QUEUE, IN_PROGRESS, COMPLETED = RemoteStatus.IN_QUEUE, RemoteStatus.IN_PROGRESS, RemoteStatus.COMPLETED
FAILED, CANCELLED, TIMED_OUT = RemoteStatus.FAILED, RemoteStatus.CANCELLED, RemoteStatus.TIMED_OUT

#: A cent a second, of a run and of a worker's start; ten seconds are set aside.
MONEY = Money(0.01, 0.01, reserved=100_000)


def priced(state: State, /, **changes: Any) -> JobRecord:
    return make_record(state, **{"money": MONEY, **changes})


def running(seconds: float = 5.0, **changes: Any) -> JobRecord:
    return priced(State.RUNNING, observed_running_since=NOW - seconds, **changes)


# --- the estimate ---


@pytest.mark.parametrize(
    ("price", "execution", "banked", "usd", "billed_s"),
    [
        (0.001, 1_000, 0, 0.001, 1),
        (0.001, 1_001, 0, 0.002, 2),
        (0.001, 900, 1_200, 0.003, 3),
        (0.001, 0, 0, 0.0, 0),
        (0.001, None, 5_000, None, None),
        (0.0, 1_000, 0, None, 1),
        (0.00031, 3_000, 0, 0.00093, 3),
    ],
)
def test_each_begun_second_of_all_runs_is_billed(
    price: float, execution: int | None, banked: int, usd: float | None, billed_s: int | None
) -> None:
    for record in (
        make_record(money=Money(price), observed_banked_ms=banked),
        make_record(spec_price_per_s=price, observed_banked_ms=banked),
    ):
        found = estimate(record, execution)
        assert (found["usd"], found["billed_s"], found["price_per_s"]) == (usd, billed_s, price or None)
        assert (found["execution_usd"], found["cold_usd"], found["earlier_usd"]) == (usd, 0.0, 0.0)


def test_the_target_of_the_attempt_says_the_price_not_the_one_that_was_first() -> None:
    record = make_record(spec_price_per_s=0.5, money=Money(0.02))
    assert estimate(record, 1_000)["price_per_s"] == 0.02


def test_a_workers_start_and_earlier_attempts_are_in_it() -> None:
    record = make_record(money=Money(0.01, 0.02, paid=30_000, cold_ms=1_500))
    assert estimate(record, 4_000) == {
        "usd": 0.11, "billed_s": 4, "cold_s": 1.5, "execution_usd": 0.04, "cold_usd": 0.04, "earlier_usd": 0.03,
        "price_per_s": 0.01,
    }  # fmt: skip


def test_a_start_is_no_longer_than_the_cloud_says_the_job_has_waited() -> None:
    record = make_record(money=Money(0.01, 0.01, cold_ms=20_000))
    assert estimate(record, 1_000, 7_000)["cold_s"] == 7.0
    again = make_record(money=Money(0.01, 0.01, cold_ms=20_000), observed_dispatches=1)
    assert estimate(again, 1_000, 7_000)["cold_s"] == 20.0, "the delay is that of the second run"


@given(usd=st.floats(0, 1e6))
def test_micro_dollars_are_never_less_and_at_most_one_more(usd: float) -> None:
    assert usd - 1e-9 * usd - 1e-9 <= dollars(micro(usd)) <= usd + 1.001e-6 + 1e-9 * usd


@given(seconds=st.integers(0, 10**7), price=st.integers(1, 10**6))
def test_whole_micro_dollars_stay_what_they_are(seconds: int, price: int) -> None:
    """A price of 0.00031 is no float: what is meant is 310 micro-dollars a second."""
    record = make_record(money=Money(price / 1_000_000))
    assert micro(estimate(record, seconds * 1000)["usd"]) == seconds * price


# --- so far ---


def test_what_a_job_has_cost_so_far_grows_while_it_runs_only() -> None:
    assert so_far(make_record(), NOW) is None
    assert so_far(priced(State.QUEUED), NOW) == 0.0
    assert so_far(priced(State.WAITING), NOW) == 0.0
    assert so_far(running(5.0), NOW) == 0.05
    assert so_far(running(5.0), NOW + 1.5) == 0.07
    assert so_far(running(5.0, observed_execution_ms=9_000), NOW) == 0.09, "the cloud knows better"
    assert so_far(running(5.0, observed_banked_ms=2_000), NOW) == 0.07
    earlier = Money(0.01, 0.01, paid=500_000, cold_ms=3_000)
    assert so_far(running(5.0, money=earlier), NOW) == 0.58
    assert so_far(priced(State.COLLECTING, observed_execution_ms=4_000), NOW) == 0.04
    assert so_far(priced(State.COLLECTING), NOW) == 0.1, "not known: what was set aside"
    assert so_far(priced(State.FAILED, money=Money(0.01, paid=30_000)), NOW) == 0.03


def test_of_a_job_that_ended_without_an_account_the_result_tells() -> None:
    record = make_record(State.COMPLETED, ending=result_ending({"cost": {"usd": 0.5}}))
    assert so_far(record, NOW) == 0.5
    assert so_far(make_record(State.COMPLETED, ending=result_ending({"seed": 1})), NOW) is None


# --- the end of an attempt ---

#: What ends an attempt, and what it has cost then; None: what was set aside.
ENDS: dict[str, tuple[JobRecord, Any, int | None]] = {
    "refused": (priced(State.SUBMITTING), NotAccepted(NotConnected("no")), 0),
    "no answer, policy fail": (priced(State.SUBMITTING), OutcomeUnknown(AnswerLost("lost")), None),
    "still no answer, policy wait": (priced(State.UNKNOWN, spec_on_unknown=OnUnknown.WAIT), StillUnknown(), None),
    "sent again": (priced(State.UNKNOWN, spec_on_unknown=OnUnknown.RESUBMIT), StillUnknown(), None),
    "failed": (running(), Seen(remote(FAILED, execution_ms=7_100, error="x")), 80_000),
    "failed, as watched": (running(5.0), Seen(remote(FAILED, error="x")), 50_000),
    "failed, and never seen to run": (priced(State.WAITING), Seen(remote(FAILED, error="x")), None),
    "failed in its second run": (
        running(5.0, observed_worker_id="a"),
        Seen(remote(FAILED, worker_id="b", execution_ms=2_000)),
        50_000,
    ),
    "out of time": (running(), Seen(remote(TIMED_OUT, execution_ms=600_000)), 6_000_000),
    "cancelled in the queue": (priced(State.WAITING, cancel=CancelReason.USER), Seen(remote(CANCELLED)), 0),
    "cancelled while it ran": (running(5.0, cancel=CancelReason.USER), Seen(remote(CANCELLED)), 50_000),
    "bad output": (priced(State.COLLECTING, observed_execution_ms=3_000), OutputBad(BudgetExceeded("x")), 30_000),
    "bad output, time not known": (priced(State.COLLECTING), OutputBad(BudgetExceeded("x")), None),
    "not to be fetched": (
        priced(State.COLLECTING, observed_execution_ms=3_000, observed_troubles=99),
        Uncollected("full"),
        30_000,
    ),
    "completed": (priced(State.COLLECTING), Collected({"cost": {"usd": 0.0234567}}), 23_457),
    "completed, price not known": (priced(State.COLLECTING), Collected({"cost": {"usd": None}}), None),
    "an endpoint in trouble, of a job that is to stop": (
        running(5.0, cancel=CancelReason.USER, observed_troubles=99),
        Trouble(ServerError("down")),
        50_000,
    ),
    "no answer, of a job that is to stop": (
        priced(State.WAITING, cancel=CancelReason.USER, observed_troubles=99),
        NoAnswer(),
        None,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_attempt_that_is_over_has_cost_what_it_ran_or_what_was_set_aside(name: str) -> None:
    record, observation, cost = ENDS[name]
    for around in (PLAIN, RETRYING):
        after = advance(record, observation, NOW, around).record
        assert after.state.ended or after.state is State.QUEUED
        assert (after.money.paid, after.money.reserved) == (100_000 if cost is None else cost, 0)


def test_a_job_that_the_endpoint_does_not_know_any_more_has_cost_until_it_was_missed() -> None:
    record = running(200.0, observed_missing_since=NOW - 150.0)
    after = advance(record, Missing(), NOW, PLAIN).record
    assert (after.state.ended, after.money.paid) == (True, 500_000)


def test_costs_add_up_over_attempts() -> None:
    record, paid = running(), 0
    for seconds in (3, 4, 5):
        money = expecting(record, 0.01)
        record = running(0.0, money=money, observed_crashes=0)
        record = advance(record, Seen(remote(FAILED, error="x", execution_ms=seconds * 1000)), NOW, RETRYING).record
        paid += seconds * 10_000
        assert (record.state, record.money.paid, record.money.cold_ms) == (State.QUEUED, paid, 0)
    final = priced(State.COLLECTING, money=record.money, observed_execution_ms=2_000)
    assert estimate(final, 2_000)["usd"] == 0.14
    assert estimate(final, 2_000)["earlier_usd"] == 0.12


# --- while it runs ---


def test_what_is_set_aside_grows_with_what_it_costs_in_steps_of_a_tenth() -> None:
    record, writes = running(0.0), 0
    for second in range(1, 601):
        decision = advance(record, Seen(remote(IN_PROGRESS)), NOW + second, PLAIN)
        writes += decision.record.money != record.money
        record = decision.record
        assert record.money.reserved >= second * 10_000
        assert record.money.reserved <= max(100_000, second * 11_000)
    assert 30 <= writes <= 45


def test_a_job_without_a_price_has_no_account() -> None:
    record = make_record(State.RUNNING, observed_running_since=NOW - 500, spec_max_cost_usd=0.01)
    decision = advance(record, Seen(remote(IN_PROGRESS)), NOW, PLAIN)
    assert (decision.record.money, decision.over, decision.start) == (Money(), False, None)


@pytest.mark.parametrize("observation", [Seen(remote(IN_PROGRESS)), Missing(), NoAnswer(), Trouble(ServerError("x"))])
def test_a_job_over_its_ceiling_is_found_whatever_a_poll_finds(observation: Any) -> None:
    for seconds, over in ((19.5, False), (20.5, True)):
        record = running(seconds, spec_max_cost_usd=0.2)
        assert advance(record, observation, NOW, PLAIN).over is over


def test_earlier_attempts_and_a_start_count_under_the_ceiling() -> None:
    record = running(10.0, spec_max_cost_usd=0.2, money=Money(0.01, 0.01, paid=70_000, cold_ms=4_000))
    assert advance(record, Seen(remote(IN_PROGRESS)), NOW, PLAIN).over
    assert not advance(record, Seen(remote(IN_PROGRESS)), NOW - 1.0, PLAIN).over


def test_what_has_ended_or_is_to_stop_is_not_stopped_again() -> None:
    record = running(500.0, spec_max_cost_usd=0.2)
    assert not advance(record, Seen(remote(COMPLETED, execution_ms=500_000)), NOW, PLAIN).over
    assert not advance(record.with_(cancel=CancelReason.USER), Seen(remote(IN_PROGRESS)), NOW, PLAIN).over


def test_a_job_that_is_stopped_for_its_cost_failed_and_says_so() -> None:
    record = running(50.0, cancel=CancelReason.BUDGET)
    ended = advance(record, Seen(remote(CANCELLED)), NOW, PLAIN).record
    error = raised("job-1", ended.ending or {})
    assert (ended.state, type(error), error.info["code"]) == (State.FAILED, BudgetExceeded, "budget_job")
    kept = advance(record, Seen(remote(COMPLETED, output={"x": 1})), NOW, PLAIN).record
    assert advance(kept, Collected({"seed": 1}), NOW, PLAIN).record.state is State.COMPLETED


def test_a_job_that_may_not_cost_what_it_is_expected_to() -> None:
    record = make_record(State.QUEUED, spec_expected_run_s=10.0, spec_max_cost_usd=0.2)
    assert not is_unaffordable(record.with_(money=expecting(record, 0.02)))
    assert is_unaffordable(record.with_(money=expecting(record, 0.021)))
    paid = record.with_(money=Money(paid=1))
    assert is_unaffordable(paid.with_(money=expecting(paid, 0.02)))
    free = make_record(State.QUEUED, spec_expected_run_s=1e6)
    assert not is_unaffordable(free.with_(money=expecting(free, 1.0)))


# --- a worker's start ---


def cold(state: State = State.STARTING, **changes: Any) -> JobRecord:
    return priced(state, observed_cold=True, observed_status="IN_QUEUE", **changes)


def test_a_start_is_over_when_a_worker_takes_the_job() -> None:
    for observation in (
        Seen(remote(IN_PROGRESS, delay_ms=60_500)),
        Seen(remote(COMPLETED, delay_ms=60_500, execution_ms=1_000)),
        Seen(remote(FAILED, delay_ms=60_500, error="x")),
        Seen(remote(CANCELLED, delay_ms=60_500, execution_ms=300)),
    ):
        for state in (State.WAITING, State.STARTING):
            decision = advance(cold(state), observation, NOW, PLAIN)
            assert decision.start == ColdStart(SUBMITTED, SUBMITTED + 60.5, 60_500, 610_000)


@pytest.mark.parametrize(
    ("record", "observation"),
    [
        (cold(), Seen(remote(IN_QUEUE))),
        (cold(), Seen(remote(CANCELLED))),
        (cold(), NoAnswer()),
        (priced(State.WAITING), Seen(remote(IN_PROGRESS, delay_ms=60_000))),
        (cold(State.RUNNING), Seen(remote(IN_PROGRESS, delay_ms=60_000))),
        (cold(), Seen(remote(IN_PROGRESS, delay_ms=900))),
        (cold(money=Money(0.01, 0.0, reserved=5)), Seen(remote(IN_PROGRESS, delay_ms=60_000))),
    ],
    ids=["still waits", "never taken", "no answer", "warm", "told before", "no wait", "not billed"],
)
def test_what_is_no_start_of_a_worker(record: JobRecord, observation: Any) -> None:
    assert advance(record, observation, NOW, PLAIN).start is None


def test_where_the_cloud_does_not_say_for_how_long_it_was_until_now() -> None:
    start = advance(cold(), Seen(TRUNCATED), NOW, PLAIN).start
    assert start == ColdStart(SUBMITTED, NOW, 100_000, 1_000_000)


def test_the_start_for_a_second_run_began_with_that_run() -> None:
    record = cold(observed_dispatches=1)
    start = advance(record, Seen(remote(IN_PROGRESS, delay_ms=30_000, retries=1)), NOW, PLAIN).start
    assert start == ColdStart(NOW - 30, NOW, 30_000, 300_000)


def test_a_start_that_counts_is_part_of_what_the_attempt_has_cost() -> None:
    record = running(5.0, money=Money(0.01, 0.01, cold_ms=2_000, reserved=1))
    after = advance(record, Seen(remote(FAILED, execution_ms=6_000, error="x")), NOW, PLAIN).record
    assert after.money.paid == 80_000
