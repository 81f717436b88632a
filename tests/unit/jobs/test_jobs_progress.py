"""Whatever a worker reports, what is shown makes sense: a percentage that grows, a sentence, a time left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import ANY_REPORT, NOW, OBSERVED, PLAIN, RETRYING, SUBMITTED, make_record, make_spec, remote

from ryla_tasks.errors import RateLimited
from ryla_tasks.jobs.lifecycle import NotAccepted, Seen, advance
from ryla_tasks.jobs.progress import Report, advanced, progress_of, read_report
from ryla_tasks.jobs.record import CancelReason, JobRecord, Observed
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State


@pytest.mark.parametrize(
    ("output", "report"),
    [
        (40, Report(percent=40.0)),
        (12.5, Report(percent=12.5)),
        ("Loading model", Report(message="Loading model")),
        ({"percent": 40, "message": "Sampling", "node": "KSampler"}, Report(40.0, "Sampling", node="KSampler")),
        ({"progress": 55.5}, Report(percent=55.5)),
        ({"step": 5, "steps": 20}, Report(25.0, step=5, steps=20)),
        ({"step": 5, "totalSteps": 20}, Report(25.0, step=5, steps=20)),
        ({"percent": 10, "step": 5, "steps": 20}, Report(10.0, step=5, steps=20)),
        ({"step": 0, "steps": 20}, Report(0.0, step=0, steps=20)),
        ({"step": 30, "steps": 20}, Report(99.9, step=30, steps=20)),
        ({"step": 3, "steps": 0}, Report(step=3, steps=0)),
        ({"percent": "40", "step": "1", "message": 4, "node": ["x"]}, Report()),
        ({"percent": True, "step": True, "steps": False}, Report()),
        ({"step": 10**400, "steps": 7}, Report(steps=7)),
        (100, Report(percent=99.9)),
        (250, Report(percent=99.9)),
        (-3, Report(percent=0.0)),
        (10**400, Report()),
        (float("nan"), Report()),
        (float("inf"), Report()),
        (True, Report()),
        (None, Report()),
        ([40], Report()),
        ({}, Report()),
        ("x" * 5_000, Report(message="[base64]")),
        ("so " * 500, Report(message=("so " * 500)[:200])),
        ({"message": "saved https://b.example/k?X-Amz-Signature=abc"}, Report(message="saved https://b.example/...")),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_report_is_read_in_whatever_shape_it_comes(output: Any, report: Report) -> None:
    assert read_report(output) == report


@settings(max_examples=100, deadline=None)
@given(observed=OBSERVED, output=ANY_REPORT)
def test_no_report_breaks_a_poll_or_takes_progress_back(observed: Observed, output: Any) -> None:
    after = advanced(observed, read_report(output))
    assert observed.percent <= after.percent <= 99.9
    assert len(after.message) <= 200
    assert "Signature" not in after.message + after.node
    record = make_record(State.RUNNING, observed=after)
    json.dumps(progress_of(record, NOW).to_json(), allow_nan=False)
    assert Observed.from_json(after.to_json()) == after


@settings(max_examples=100, deadline=None)
@given(
    observed=OBSERVED,
    state=st.sampled_from(State),
    cancel=st.none() | st.sampled_from(CancelReason),
    expected_run_s=st.floats(0, 1e5),
    now=st.floats(SUBMITTED - 100, SUBMITTED + 1e6),
)
def test_progress_makes_sense_at_any_time(
    observed: Observed, state: State, cancel: CancelReason | None, expected_run_s: float, now: float
) -> None:
    record = make_record(state, observed=observed, cancel=cancel, spec_expected_run_s=expected_run_s)
    told = progress_of(record, now)
    assert (told.percent == 100.0) is (state is State.COMPLETED)
    assert told.message
    assert told.eta_s is not None
    assert told.eta_s >= 0.0
    assert (told.eta_s == 0.0) >= state.ended
    assert told.to_json() == json.loads(json.dumps(told.to_json(), allow_nan=False))


def message_of(record: JobRecord) -> str:
    return progress_of(record, NOW).message


def test_each_state_has_its_sentence() -> None:
    messages = {message_of(make_record(state)) for state in State}
    assert messages == {state.sentence for state in State}
    assert len(messages) == len(State)


def test_a_running_job_says_what_its_worker_says_or_its_step() -> None:
    assert message_of(make_record(State.RUNNING, observed_message="VAE", observed_step=3, observed_steps=9)) == "VAE"
    assert message_of(make_record(State.RUNNING, observed_step=3, observed_steps=9)) == "Working on it: step 3 of 9"
    assert message_of(make_record(State.RUNNING, observed_step=3)) == "Working on it"


def test_a_job_that_is_to_stop_says_so_until_it_has() -> None:
    assert message_of(make_record(State.RUNNING, cancel=CancelReason.USER, observed_message="VAE")) == "Cancelling"
    assert message_of(make_record(State.CANCELLED, cancel=CancelReason.USER)) == "Cancelled"


def test_trying_again_is_over_once_the_job_is_sent_or_has_ended() -> None:
    refused = NotAccepted(RateLimited("slow down", retry_after=5))
    queued = advance(make_record(State.SUBMITTING), refused, NOW, RETRYING).record
    assert message_of(queued) == "Trying again in 6 s"
    for state in (State.SUBMITTING, State.WAITING, State.CANCELLED, State.TIMED_OUT):
        assert message_of(queued.with_(state=state)) == state.sentence


def test_percent_starts_anew_with_the_attempt_that_a_retried_job_waits_for() -> None:
    record = make_record(State.RUNNING, attempt=1, observed_percent=70.0)
    before = progress_of(record, NOW)
    after = progress_of(advance(record, Seen(remote(RemoteStatus.FAILED)), NOW, RETRYING).record, NOW)
    assert (before.attempt, before.percent) == (1, 70.0)
    assert (after.attempt, after.percent, after.phase) == (2, 0.0, State.QUEUED)
    assert progress_of(JobRecord("job-1", make_spec()), NOW).attempt == 1


def test_the_time_left_follows_the_percentage_or_the_expected_time() -> None:
    record = make_record(State.RUNNING, observed_running_since=NOW - 30.0, spec_expected_run_s=50.0)
    assert progress_of(record, NOW).eta_s == 20.0
    assert progress_of(record, NOW + 100).eta_s == 1.0
    halfway = make_record(State.RUNNING, observed_running_since=NOW - 30.0, observed_percent=75.0)
    assert progress_of(halfway, NOW).eta_s == 10.0
    assert progress_of(make_record(spec_expected_run_s=50.0), NOW).eta_s == 50.0
    assert progress_of(make_record(State.COLLECTING), NOW).eta_s == 1.0


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    record = make_record(State.RUNNING, observed_running_since=NOW + 60.0, observed_percent=50.0)
    assert progress_of(record, NOW).eta_s == 0.0


def test_progress_tells_phase_endpoint_and_attempt() -> None:
    record = advance(make_record(), Seen(remote(RemoteStatus.IN_PROGRESS, output=33.333)), NOW, PLAIN).record
    assert progress_of(record, NOW).to_json() == {
        "phase": "running",
        "percent": 33.3,
        "message": "Working on it",
        "eta_s": 0.0,
        "endpoint": "image",
        "attempt": 1,
    }
