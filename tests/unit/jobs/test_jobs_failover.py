"""When a job leaves its target for another, and what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_samples import NOW, make_record, remote

from ryla_tasks.errors import (
    AnswerLost,
    EndpointNotFound,
    NotConnected,
    ProviderError,
    RateLimited,
    RequestRejected,
    Unauthorized,
)
from ryla_tasks.jobs.breaker import Call, Outcome
from ryla_tasks.jobs.falling_back import lines_of
from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.lifecycle import Decision, Step, Surroundings, advance
from ryla_tasks.jobs.money import Money
from ryla_tasks.jobs.observation import NotAccepted, OutcomeUnknown, Seen
from ryla_tasks.jobs.phases import Outlook
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stuck import Cause, Watch

STUCK = Outlook(Watch(NOW, Health(NOW, {"inQueue": 1}), cause=Cause.NO_WORKER, since=NOW - 500, stuck=True))
OTHER = "runpod:ep2"


def look(record: JobRecord, status: RemoteStatus, *, elsewhere: str = OTHER, outlook: Outlook = STUCK) -> Decision:
    return advance(record, Seen(remote(status)), NOW, Surroundings(outlook=outlook, elsewhere=elsewhere))


def leaving(state: State = State.WAITING, **changes: object) -> JobRecord:
    return make_record(state, observed_leaving="no_worker", observed_stuck="no_worker", **changes)


def test_a_job_that_no_worker_comes_to_is_withdrawn_and_says_so() -> None:
    decision = look(make_record(), RemoteStatus.IN_QUEUE)
    assert (decision.withdraw, decision.step, decision.record.state) == (True, Step.POLL, State.WAITING)
    assert decision.record.observed.leaving == "no_worker"
    assert "another endpoint" in decision.record.observed.waiting
    assert decision.outcome == Outcome(Call.WAIT, bad=True)
    assert decision.event == "stuck"


def test_it_waits_on_where_there_is_nowhere_to_go_and_is_withdrawn_once() -> None:
    assert look(make_record(), RemoteStatus.IN_QUEUE, elsewhere="").withdraw is None
    assert look(make_record(cancel=CancelReason.USER), RemoteStatus.IN_QUEUE).withdraw is None
    assert look(make_record(), RemoteStatus.IN_QUEUE, outlook=Outlook()).withdraw is None
    again = look(leaving(), RemoteStatus.IN_QUEUE)
    assert (again.withdraw, again.outcome, again.record.observed.leaving) == (None, None, "no_worker")


def test_one_that_has_begun_to_run_stays() -> None:
    decision = look(leaving(), RemoteStatus.IN_PROGRESS)
    assert (decision.withdraw, decision.record.state) == (False, State.RUNNING)
    assert look(decision.record, RemoteStatus.IN_PROGRESS).withdraw is None
    done = look(leaving(), RemoteStatus.COMPLETED)
    assert (done.record.state, done.step) == (State.COLLECTING, Step.DELIVER)


def test_when_it_is_cancelled_there_it_goes_on_elsewhere_with_a_clean_sheet() -> None:
    decision = look(leaving(retries=2, observed_percent=10.0, observed_crashes=1), RemoteStatus.CANCELLED)
    after = decision.record
    assert (after.state, decision.step, decision.event) == (State.QUEUED, Step.SUBMIT, "failover")
    assert (after.left, after.retries, after.remote_id) == ((("runpod:ep1", "no_worker"),), 0, "")
    assert (after.observed.percent, after.observed.crashes, after.observed.leaving) == (0.0, 1, "")
    assert lines_of(make_record()) == []
    assert lines_of(after.with_(target=OTHER)) == [
        {"kind": "endpoint", "from": "runpod:ep1", "to": OTHER, "why": "no_worker"}
    ]


def test_a_cancel_that_comes_late_strikes_a_running_job_which_goes_on_elsewhere() -> None:
    """Whoever was to send it may have been frozen between his last look and his call."""
    money = Money(0.01, reserved=150_000)
    decision = look(leaving(State.RUNNING, observed_running_since=NOW - 4, money=money), RemoteStatus.CANCELLED)
    assert (decision.record.state, decision.record.money.paid) == (State.QUEUED, 40_000)
    waited = look(leaving(money=money), RemoteStatus.CANCELLED).record
    assert (waited.state, waited.money.paid, waited.money.reserved) == (State.QUEUED, 0, 0)


def test_a_job_that_is_to_stop_does_not_go_on_elsewhere() -> None:
    ended = look(leaving(cancel=CancelReason.USER), RemoteStatus.CANCELLED).record
    assert (ended.state, ended.left) == (State.CANCELLED, ())


@pytest.mark.parametrize("error", [EndpointNotFound("x"), Unauthorized("x"), NotConnected("x"), RateLimited("x")])
def test_a_target_that_surely_did_not_take_it_is_left_when_the_retries_are_used_up(error: ProviderError) -> None:
    record = make_record(State.SUBMITTING, retries=3)
    decision = advance(record, NotAccepted(error), NOW, Surroundings(may_retry=lambda _: True, elsewhere=OTHER))
    assert (decision.record.state, decision.event) == (State.QUEUED, "failover")
    assert decision.record.left[0][0] == "runpod:ep1"


def test_a_refused_input_is_refused_everywhere_and_a_lost_answer_leads_nowhere() -> None:
    around = Surroundings(elsewhere=OTHER)
    record = make_record(State.SUBMITTING, retries=3)
    assert advance(record, NotAccepted(RequestRejected("x")), NOW, around).record.state is State.FAILED
    unknown = advance(record, OutcomeUnknown(AnswerLost("x")), NOW, around).record
    assert (unknown.left, unknown.state) == ((), State.FAILED)


STATUSES = st.sampled_from([RemoteStatus.IN_QUEUE, RemoteStatus.IN_PROGRESS, RemoteStatus.CANCELLED])


@given(st.lists(STATUSES, max_size=12), st.booleans())
def test_no_job_is_submitted_elsewhere_before_the_cloud_has_said_that_it_is_cancelled(
    statuses: list[RemoteStatus], stuck: bool
) -> None:
    record = make_record()
    for status in statuses:
        decision = look(record, status, outlook=STUCK if stuck else Outlook())
        after = decision.record
        if after.state is State.QUEUED:
            assert status is RemoteStatus.CANCELLED
            assert record.observed.leaving
            return
        if after.state.ended:
            assert status is RemoteStatus.CANCELLED
            assert not record.observed.leaving
            return
        record = after
