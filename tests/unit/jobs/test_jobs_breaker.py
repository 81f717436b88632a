"""The breaker: when it opens, what it lets through, when it closes, and what counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from job_samples import make_record, remote

from ryla_tasks.errors import (
    AnswerLost,
    EndpointNotFound,
    MalformedAnswer,
    NotConnected,
    RateLimited,
    RequestRejected,
    ServerError,
    Unauthorized,
)
from ryla_tasks.jobs.breaker import CLOSED, PAUSE_MAX_S, Breaker, Call, Outcome, Rule, judged, outcome_of
from ryla_tasks.jobs.lifecycle import Surroundings, advance
from ryla_tasks.jobs.observation import Missing, NoAnswer, NotAccepted, OutcomeUnknown, Seen, StillUnknown
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State

NOW = 1_000_000.0
RULE = Rule(failures=0.5, calls=20, window_s=300, pause_s=10)
OPEN = Breaker(opened=NOW - 20, until=NOW, pause_s=10, why=Call.ATTEMPT)


def closed(call: Call, *bad: bool, age_s: float = 1.0) -> Breaker:
    """A closed breaker with these outcomes, newest first."""
    return Breaker(recent=((call, tuple((NOW - age_s, one) for one in bad)),))


def test_one_job_that_left_for_want_of_a_worker_opens_it_for_longer() -> None:
    after = judged(closed(Call.WAIT, True), NOW, RULE)
    assert (after.is_open, after.until, after.pause_s, after.why) == (True, NOW + 60, 60, Call.WAIT)
    assert not judged(closed(Call.WAIT, True, age_s=301), NOW, RULE).is_open
    taken = replace(after, probe=(Outcome(Call.RUN, bad=False),))
    assert judged(taken, NOW, RULE) == taken, "that the queue took it says nothing"
    assert judged(replace(after, probe=(Outcome(Call.ATTEMPT, bad=False),)), NOW, RULE) == CLOSED
    assert judged(replace(after, probe=(Outcome(Call.WAIT, bad=True),)), NOW, RULE).pause_s == 120


@pytest.mark.parametrize("call", [Call.RUN, Call.ATTEMPT])
@pytest.mark.parametrize(
    ("bad", "good", "opens"),
    [(10, 0, True), (9, 0, False), (5, 5, False), (6, 5, True), (6, 4, True), (9, 9, False), (0, 20, False)],
)
def test_it_opens_when_more_than_its_share_of_at_least_ten_is_bad(call: Call, bad: int, good: int, opens: bool) -> None:
    breaker = closed(call, *[True] * bad, *[False] * good)
    after = judged(breaker, NOW, RULE)
    assert after.is_open is opens
    if opens:
        assert (after.opened, after.until, after.pause_s, after.why) == (NOW, NOW + 10, 10, call)
    else:
        assert after == breaker


def test_outcomes_beyond_the_last_and_outside_of_the_window_do_not_count() -> None:
    assert judged(closed(Call.RUN, *[True] * 10, *[False] * 100), NOW, replace(RULE, calls=10)).is_open
    assert not judged(closed(Call.RUN, *[False] * 20, *[True] * 100), NOW, RULE).is_open
    assert not judged(closed(Call.RUN, *[True] * 20, age_s=301), NOW, RULE).is_open


def test_submits_that_go_well_do_not_hide_attempts_that_go_wrong() -> None:
    outcomes = ((Call.RUN, ((NOW, False),) * 50), (Call.ATTEMPT, ((NOW, True),) * 10))
    assert judged(Breaker(recent=outcomes), NOW, RULE).why is Call.ATTEMPT


def test_a_share_of_one_is_never_exceeded() -> None:
    assert not judged(closed(Call.RUN, *[True] * 50), NOW, replace(RULE, failures=1.0)).is_open


def test_nothing_changes_an_open_one_but_its_probe() -> None:
    for breaker in (OPEN, replace(OPEN, recent=((Call.RUN, ((NOW, True),) * 20),))):
        assert judged(breaker, NOW, RULE) == breaker


def test_a_probe_that_fails_doubles_the_pause_up_to_five_minutes() -> None:
    breaker, pauses = OPEN, []
    for _ in range(7):
        breaker = judged(replace(breaker, probe=(Outcome(Call.ATTEMPT, bad=True),)), NOW, RULE)
        assert breaker.until == NOW + breaker.pause_s
        assert breaker.opened == OPEN.opened
        pauses.append(breaker.pause_s)
    assert pauses == [20, 40, 80, 160, PAUSE_MAX_S, PAUSE_MAX_S, PAUSE_MAX_S]


def test_a_probe_that_goes_well_closes_it() -> None:
    assert judged(replace(OPEN, probe=(Outcome(Call.ATTEMPT, bad=False),)), NOW, RULE) == CLOSED
    assert judged(replace(OPEN, why=Call.RUN, probe=(Outcome(Call.RUN, bad=False),)), NOW, RULE) == CLOSED


def test_that_the_probe_was_taken_closes_it_only_where_the_submits_went_wrong() -> None:
    taken = replace(OPEN, probe=(Outcome(Call.RUN, bad=False),))
    assert judged(taken, NOW, RULE) == taken
    failed = replace(OPEN, probe=(Outcome(Call.RUN, bad=False), Outcome(Call.ATTEMPT, bad=True)))
    assert judged(failed, NOW, RULE).pause_s == 20


@given(st.lists(st.booleans(), max_size=60), st.floats(0.1, 1.0), st.integers(10, 50))
def test_it_opens_for_no_share_that_is_allowed(bad: list[bool], failures: float, calls: int) -> None:
    after = judged(closed(Call.RUN, *bad), NOW, Rule(failures, calls, 300, 10))
    counted = bad[:calls]
    assert after.is_open is (len(counted) >= 10 and sum(counted) / len(counted) > failures)


BAD_RUN = Outcome(Call.RUN, bad=True)


@pytest.mark.parametrize(
    ("observation", "outcome"),
    [
        (NotAccepted(NotConnected("x")), BAD_RUN),
        (OutcomeUnknown(ServerError("x", http_status=500)), BAD_RUN),
        (OutcomeUnknown(AnswerLost("x")), BAD_RUN),
        (OutcomeUnknown(MalformedAnswer("x")), BAD_RUN),
        (OutcomeUnknown(None), None),
        (StillUnknown(), None),
        (NotAccepted(RateLimited("x", retry_after=1)), None),
        (NotAccepted(RequestRejected("x")), None),
        (NotAccepted(EndpointNotFound("x")), None),
        (NotAccepted(Unauthorized("x")), None),
        (NoAnswer(), None),
        (Missing(), None),
        (Seen(remote(RemoteStatus.IN_PROGRESS)), None),
        (Seen(remote(RemoteStatus.CANCELLED)), None),
        (Seen(remote(RemoteStatus.COMPLETED, output={})), Outcome(Call.ATTEMPT, bad=False)),
        (Seen(remote(RemoteStatus.FAILED, error="job timed out after 1 retries")), Outcome(Call.ATTEMPT, bad=True)),
        (Seen(remote(RemoteStatus.FAILED, error="ValueError: width")), Outcome(Call.ATTEMPT, bad=False)),
    ],
    ids=repr,
)
def test_what_counts_for_and_against_a_target(observation: object, outcome: Outcome | None) -> None:
    assert outcome_of(observation) == outcome  # type: ignore[arg-type]


def test_a_decision_says_what_the_observation_says_of_the_target() -> None:
    decision = advance(make_record(State.SUBMITTING), NotAccepted(NotConnected("x")), NOW, Surroundings())
    assert decision.outcome == BAD_RUN
    assert advance(make_record(State.RUNNING), NoAnswer(), NOW, Surroundings()).outcome is None
