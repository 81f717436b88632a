"""The design's rules for what an observation makes of a job, one test a rule."""

from __future__ import annotations

from typing import Any

import pytest
from job_samples import NOW, PLAIN, RETRYING, SUBMITTED, TRUNCATED, make_record, remote

from ryla_tasks.errors import (
    AnswerLost,
    BudgetExceeded,
    EndpointNotFound,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobTimedOut,
    MalformedAnswer,
    NotConnected,
    OutputInvalid,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServerError,
    SubmitOutcomeUnknown,
    SubmitRejected,
    Unauthorized,
)
from ryla_tasks.jobs.ending import described, raised, result_ending
from ryla_tasks.jobs.lifecycle import (
    REMOTE_RETENTION_S,
    Collected,
    Decision,
    Missing,
    NoAnswer,
    NotAccepted,
    Observation,
    OutcomeUnknown,
    OutputBad,
    Seen,
    Step,
    Surroundings,
    Trouble,
    Uncollected,
    advance,
    cancelled_ending,
)
from ryla_tasks.jobs.money import Money
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import ENDS, State

IN_QUEUE, IN_PROGRESS = RemoteStatus.IN_QUEUE, RemoteStatus.IN_PROGRESS
COMPLETED, FAILED = RemoteStatus.COMPLETED, RemoteStatus.FAILED
CANCELLED, TIMED_OUT = RemoteStatus.CANCELLED, RemoteStatus.TIMED_OUT

#: A task that lists no error of a job, and leaves it to the verdict.
JUDGED = Surroundings(may_resubmit=lambda _error: True)

EVERY_OBSERVATION: list[Observation] = [
    Seen(remote(IN_QUEUE)),
    Seen(remote(IN_PROGRESS, output=50)),
    Seen(remote(COMPLETED, output={"images": []})),
    Seen(remote(FAILED, error="boom")),
    Seen(TRUNCATED),
    Missing(),
    NoAnswer(),
    Trouble(ServerError("down")),
    NotAccepted(RateLimited("slow down", retry_after=7)),
    OutcomeUnknown(),
    Collected({"seed": 1}),
    OutputBad(OutputInvalid("bad")),
    Uncollected("disk full"),
]


def error_of(decision: Decision) -> Any:
    return raised("job-1", decision.record.ending or {})


def after(record: JobRecord, *observations: Observation, around: Surroundings = PLAIN, gap: float = 2.0) -> JobRecord:
    """The record after these observations, some seconds apart."""
    for number, observation in enumerate(observations):
        record = advance(record, observation, NOW + number * gap, around).record
    return record


class TestEnds:
    @pytest.mark.parametrize("observation", EVERY_OBSERVATION, ids=lambda seen: type(seen).__name__)
    @pytest.mark.parametrize("state", sorted(ENDS))
    def test_a_terminal_state_is_final_whatever_comes_late(self, state: State, observation: Observation) -> None:
        record = make_record(state, ended=NOW, ending=result_ending({"seed": 1}), observed_percent=40.0)
        decision = advance(record, observation, NOW + 5, RETRYING)
        assert decision == Decision(record, Step.DELIVER)

    def test_a_late_in_progress_after_completed_keeps_the_result(self) -> None:
        record = after(make_record(), Seen(remote(COMPLETED)), Collected({"seed": 1}))
        assert after(record, Seen(remote(IN_PROGRESS, output=30))) == record
        assert (record.state, record.ending) == (State.COMPLETED, {"result": {"seed": 1}})

    def test_a_remote_cancel_that_nobody_here_wanted_ends_cancelled(self) -> None:
        decision = advance(make_record(State.RUNNING), Seen(remote(CANCELLED)), NOW, RETRYING)
        assert decision.record.state is State.CANCELLED
        assert type(error_of(decision)) is JobCancelled

    def test_a_remote_time_out_is_timed_out(self) -> None:
        decision = advance(make_record(State.RUNNING), Seen(remote(TIMED_OUT, execution_ms=600_000)), NOW, PLAIN)
        error = error_of(decision)
        assert (decision.record.state, type(error), error.info["code"]) == (
            State.TIMED_OUT,
            JobTimedOut,
            "remote_time_out",
        )
        assert error.details["execution_ms"] == 600_000

    def test_a_remote_failure_tells_the_developer_what_the_worker_said(self) -> None:
        seen = remote(FAILED, error='{"error_type": "CudaError"}', worker_id="w-1", retries=0, output={"at": "VAE"})
        error = error_of(advance(make_record(State.RUNNING), Seen(seen), NOW, PLAIN))
        assert (type(error), str(error)) == (JobFailed, "The GPU worker reported an error.")
        assert error.details == {
            "error": {"error_type": "CudaError"},
            "output": {"at": "VAE"},
            "worker_id": "w-1",
            "retries": 0,
        }


class TestUnderWay:
    @pytest.mark.parametrize("state", [State.WAITING, State.RUNNING])
    @pytest.mark.parametrize("word", ["PAUSED", "MIGRATING", ""])
    def test_an_unknown_status_is_no_end_and_tells_nothing_new(self, state: State, word: str) -> None:
        record = make_record(state, observed_percent=30.0, observed_running_since=NOW - 5)
        decision = advance(record, Seen(RemoteJob("r-1", RemoteStatus.OTHER, word, output=90)), NOW, PLAIN)
        assert (decision.record.state, decision.step, decision.event) == (state, Step.POLL, "")
        assert (decision.record.observed.percent, decision.record.observed.running_since) == (30.0, NOW - 5)

    def test_the_first_in_progress_starts_the_running_clock(self) -> None:
        decision = advance(make_record(), Seen(remote(IN_PROGRESS, worker_id="w-1", delay_ms=900)), NOW, PLAIN)
        observed = decision.record.observed
        assert (decision.record.state, decision.event, decision.step) == (State.RUNNING, "state", Step.POLL)
        assert (observed.running_since, observed.worker_id, observed.delay_ms) == (NOW, "w-1", 900)
        later = advance(decision.record, Seen(remote(IN_PROGRESS)), NOW + 9, PLAIN)
        assert (later.record.observed.running_since, later.record.observed.worker_id, later.event) == (NOW, "w-1", "")

    def test_progress_is_told_once_and_never_goes_back(self) -> None:
        record = make_record(State.RUNNING, observed_percent=40.0, observed_running_since=NOW)
        further = advance(record, Seen(remote(IN_PROGRESS, output={"percent": 60, "message": "VAE"})), NOW, PLAIN)
        assert (further.event, further.record.observed.percent) == ("progress", 60.0)
        again = advance(further.record, Seen(remote(IN_PROGRESS, output={"percent": 60, "message": "VAE"})), NOW, PLAIN)
        assert again.event == ""
        back = advance(further.record, Seen(remote(IN_PROGRESS, output={"percent": 5})), NOW, PLAIN)
        assert back.record.observed.percent == 60.0

    def test_an_answer_forgets_trouble_and_absence(self) -> None:
        record = make_record(observed_troubles=4, observed_trouble="ServerError", observed_missing_since=NOW - 30)
        for seen in (remote(IN_QUEUE), remote(COMPLETED, output={"x": 1})):
            observed = after(record, Seen(seen)).observed
            assert (observed.troubles, observed.trouble, observed.missing_since) == (0, "", 0.0)

    def test_no_answer_changes_nothing_and_is_no_trouble(self) -> None:
        record = make_record(observed_troubles=2)
        decision = advance(record, NoAnswer(), NOW, PLAIN)
        assert (decision.record, decision.step, decision.event) == (record, Step.POLL, "")


class TestTrouble:
    @pytest.mark.parametrize("kind", [AnswerLost, ServerError, Unauthorized, EndpointNotFound, RateLimited])
    def test_a_broken_status_call_says_nothing_of_the_job(self, kind: type[ProviderError]) -> None:
        decision = advance(make_record(State.RUNNING, observed_percent=20.0), Trouble(kind("no")), NOW, RETRYING)
        assert (decision.record.state, decision.step, decision.event) == (State.RUNNING, Step.POLL, "")
        assert (decision.record.observed.troubles, decision.record.observed.trouble) == (1, kind.__name__)
        assert decision.record.observed.percent == 20.0

    def test_retry_after_7_waits_at_least_7_seconds(self) -> None:
        decision = advance(make_record(), Trouble(RateLimited("slow down", retry_after=7)), SUBMITTED + 5, PLAIN)
        assert decision.in_s == 7.0

    def test_no_retry_after_makes_a_poll_outlast_the_retention(self) -> None:
        decision = advance(make_record(), Trouble(RateLimited("slow down", retry_after=86_400)), NOW, PLAIN)
        assert decision.in_s < REMOTE_RETENTION_S

    def test_the_gap_grows_with_the_trouble(self) -> None:
        record, gaps = make_record(spec_poll_min_s=1.0, spec_poll_max_s=15.0), []
        for _ in range(6):
            decision = advance(record, Trouble(ServerError("down")), NOW, PLAIN)
            record = decision.record
            gaps.append(decision.in_s)
        assert gaps == [2.0, 4.0, 8.0, 15.0, 15.0, 15.0]

    @pytest.mark.parametrize("observation", [Trouble(ServerError("down")), NoAnswer(), Seen(remote(IN_QUEUE))])
    def test_a_job_past_its_ttl_and_the_retention_is_over(self, observation: Observation) -> None:
        record = make_record(spec_ttl_s=60.0)
        last = SUBMITTED + 60.0 + REMOTE_RETENTION_S
        assert not advance(record, observation, last, RETRYING).record.state.ended
        decision = advance(record, observation, last + 0.1, RETRYING)
        assert (decision.record.state, error_of(decision).info["code"]) == (State.TIMED_OUT, "ttl")


class TestMissing:
    def test_a_404_right_after_the_submit_is_no_end(self) -> None:
        record = make_record()
        for age in (0.0, 1.0, 59.0):
            decision = advance(record, Missing(), SUBMITTED + age, PLAIN)
            assert (decision.record.state, decision.step) == (State.WAITING, Step.POLL)
            assert decision.record.observed.missing_since == 0.0

    def test_nor_where_the_job_is_to_stop_for_it_could_not_be_cancelled_yet(self) -> None:
        record = make_record(cancel=CancelReason.USER)
        assert not advance(record, Missing(), SUBMITTED + 59.0, PLAIN).record.state.ended
        assert advance(record, Missing(), SUBMITTED + 61.0, PLAIN).record.state is State.CANCELLED

    def test_a_lasting_404_is_remote_lost(self) -> None:
        record = advance(make_record(State.RUNNING), Missing(), NOW, RETRYING).record
        assert record.observed.missing_since == NOW
        record = advance(record, Trouble(ServerError("down")), NOW + 20, RETRYING).record
        record = advance(record, Missing(), NOW + 59, RETRYING).record
        assert record.state is State.RUNNING
        decision = advance(record, Missing(), NOW + 60, RETRYING)
        error = error_of(decision)
        assert (decision.record.state, type(error), error.info["code"]) == (State.EXPIRED, JobExpired, "remote_lost")

    @pytest.mark.parametrize(
        ("observation", "changes", "state", "code"),
        [
            (Missing(), {}, State.EXPIRED, "wrong_endpoint"),
            (Missing(), {"observed_status": "IN_QUEUE"}, State.EXPIRED, "remote_lost"),
            (Missing(), {"observed_status": "IN_QUEUE", "spec_ttl_s": 60.0}, State.TIMED_OUT, "ttl"),
            (
                Missing(),
                {"submitted": NOW - 9_000.0, "observed_seen_at": NOW - 2_000.0},
                State.EXPIRED,
                "result_expired",
            ),
            (Trouble(EndpointNotFound("404")), {}, State.EXPIRED, "endpoint_gone"),
        ],
        ids=["never seen", "seen", "past its ttl", "unwatched for longer than a result is kept", "no endpoint"],
    )
    def test_a_lasting_404_is_judged_by_age_and_by_what_was_seen(
        self, observation: Observation, changes: dict[str, Any], state: State, code: str
    ) -> None:
        record, now = make_record(**changes), NOW
        while not record.state.ended:
            record, now = advance(record, observation, now, RETRYING).record, now + 30.0
        error = raised("job-1", record.ending or {})
        assert (record.state, error.info["code"], record.retries) == (state, code, 0)
        assert error.details["target"] == "runpod:ep1"
        assert error.details["missing_s"] >= 60.0

    def test_an_endpoint_that_is_not_found_is_given_up_when_no_result_could_be_there_any_more(self) -> None:
        record = advance(make_record(), Trouble(EndpointNotFound("404")), NOW, PLAIN).record
        last = NOW + REMOTE_RETENTION_S - 1
        assert not advance(record, Trouble(EndpointNotFound("404")), last, PLAIN).record.state.ended
        assert advance(record, Trouble(EndpointNotFound("404")), last + 1, PLAIN).record.state is State.EXPIRED

    @pytest.mark.parametrize("between", [[], [Trouble(ServerError("down"))], [Seen(remote(IN_QUEUE))]], ids=repr)
    def test_the_absence_of_the_endpoint_is_not_held_against_the_job(self, between: list[Observation]) -> None:
        record = after(make_record(), Trouble(EndpointNotFound("404")))
        record = after(record.with_(submitted=SUBMITTED - 900), *between, gap=0.0)
        decision = advance(record, Missing(), NOW + 900, PLAIN)
        assert not decision.record.state.ended
        assert decision.record.observed.missing_since == NOW + 900

    def test_a_job_that_is_found_again_goes_on(self) -> None:
        record = after(make_record(), Missing(), Seen(remote(IN_PROGRESS)))
        assert not advance(record, Missing(), NOW + 100, PLAIN).record.state.ended

    def test_an_absence_before_the_completion_is_not_held_against_the_collection(self) -> None:
        record = after(make_record(), Missing(), Seen(remote(COMPLETED)))
        decision = advance(record, Missing(), NOW + 300, PLAIN)
        assert (decision.record.state, decision.step) == (State.COLLECTING, Step.POLL)


class TestCollecting:
    def test_a_completed_job_goes_to_deliver_with_its_output(self) -> None:
        decision = advance(make_record(State.RUNNING), Seen(remote(COMPLETED, output={"images": [1]})), NOW, PLAIN)
        assert (decision.record.state, decision.step, decision.in_s) == (State.COLLECTING, Step.DELIVER, 0.0)
        assert (decision.output, decision.event) == ({"images": [1]}, "state")

    def test_a_truncated_status_goes_to_deliver_without_output(self) -> None:
        decision = advance(make_record(State.RUNNING), Seen(TRUNCATED), NOW, PLAIN)
        assert (decision.record.state, decision.step, decision.output) == (State.COLLECTING, Step.DELIVER, None)

    def test_what_was_truncated_and_is_not_over_is_polled_again(self) -> None:
        record = after(make_record(State.RUNNING, observed_running_since=NOW - 9), Seen(TRUNCATED))
        decision = advance(record, Seen(remote(IN_PROGRESS, output=70)), NOW + 1, PLAIN)
        assert (decision.record.state, decision.step, decision.event) == (State.RUNNING, Step.POLL, "state")
        assert (decision.record.observed.running_since, decision.record.observed.banked_ms) == (NOW - 9, 0)

    def test_what_was_truncated_and_has_an_unknown_status_waits_and_can_be_cancelled(self) -> None:
        record = after(make_record(State.RUNNING), Seen(TRUNCATED), Seen(remote(RemoteStatus.OTHER)))
        assert record.state is State.WAITING

    def test_a_result_completes_the_job(self) -> None:
        decision = advance(make_record(State.COLLECTING), Collected({"seed": 4}), NOW, PLAIN)
        assert (decision.record.state, decision.record.ended) == (State.COMPLETED, NOW)
        assert (decision.record.ending, decision.event) == ({"result": {"seed": 4}}, "state")

    def test_collecting_is_tried_for_about_the_retention_and_then_fails(self) -> None:
        record, waited, tries = make_record(State.COLLECTING), 0.0, 0
        while not record.state.ended:
            decision = advance(record, Uncollected("disk full"), NOW + waited, RETRYING)
            record, waited, tries = decision.record, waited + decision.in_s, tries + 1
            assert decision.step is Step.DELIVER
            assert decision.in_s <= 300.0
        error = raised("job-1", record.ending or {})
        assert (record.state, error.info["code"]) == (State.FAILED, "uncollected")
        assert error.details == {"reason": "disk full", "tries": tries}
        assert REMOTE_RETENTION_S < waited < 3_600.0

    def test_why_it_was_not_collected_is_told_without_presigned_urls(self) -> None:
        record = after(make_record(State.COLLECTING), Uncollected("GET https://s3.example/k?X-Amz-Signature=abc: 403"))
        assert "abc" not in record.observed.trouble
        assert "s3.example" in record.observed.trouble


class TestCancel:
    @pytest.mark.parametrize("reason", CancelReason)
    @pytest.mark.parametrize(
        "observation",
        [
            Seen(remote(CANCELLED)),
            Seen(remote(FAILED, error="killed")),
            Seen(remote(TIMED_OUT)),
            Missing(),
            OutputBad(OutputInvalid("bad")),
        ],
        ids=repr,
    )
    def test_whatever_ends_a_job_that_is_to_stop_it_was_stopped(
        self, reason: CancelReason, observation: Observation
    ) -> None:
        decision = advance(make_record(State.RUNNING, cancel=reason), observation, NOW, RETRYING)
        assert decision.record.state is reason.end
        assert decision.record.ending == cancelled_ending(reason)

    @pytest.mark.parametrize(
        "observation", [NotAccepted(NotConnected("no")), OutcomeUnknown(), OutcomeUnknown(ServerError("5"))]
    )
    def test_a_submit_that_went_wrong_is_not_repeated_once_the_job_is_to_stop(self, observation: Observation) -> None:
        record = make_record(State.SUBMITTING, cancel=CancelReason.USER)
        assert advance(record, observation, NOW, RETRYING).record.state is State.CANCELLED

    def test_a_job_that_completes_in_spite_of_a_cancel_keeps_its_result(self) -> None:
        record = make_record(State.RUNNING, cancel=CancelReason.USER)
        record = after(record, Seen(remote(IN_PROGRESS)), Seen(remote(COMPLETED)), Collected({"seed": 9}))
        assert (record.state, record.ending) == (State.COMPLETED, {"result": {"seed": 9}})

    def test_a_lost_cancel_answer_is_polled(self) -> None:
        record = make_record(State.RUNNING, cancel=CancelReason.USER)
        for observation in (Seen(remote(IN_PROGRESS)), Trouble(ServerError("down")), NoAnswer()):
            decision = advance(record, observation, NOW, PLAIN)
            assert (decision.record.state, decision.step) == (State.RUNNING, Step.POLL)

    def test_a_passed_deadline_ends_timed_out(self) -> None:
        decision = advance(make_record(cancel=CancelReason.DEADLINE), Seen(remote(CANCELLED)), NOW, PLAIN)
        error = error_of(decision)
        assert (decision.record.state, type(error), error.info["code"]) == (State.TIMED_OUT, JobTimedOut, "deadline")

    @pytest.mark.parametrize("reason", CancelReason)
    def test_what_no_gpu_had_ends_in_the_state_that_the_store_writes(self, reason: CancelReason) -> None:
        error = raised("job-1", cancelled_ending(reason))
        ends = {State.TIMED_OUT: JobTimedOut, State.FAILED: BudgetExceeded, State.CANCELLED: JobCancelled}
        assert type(error) is ends[reason.end]


class TestSubmit:
    def test_a_lost_answer_is_never_submitted_again_under_policy_fail(self) -> None:
        for error in (None, AnswerLost("lost", http_status=None), ServerError("502", http_status=502)):
            decision = advance(make_record(State.SUBMITTING), OutcomeUnknown(error), NOW, RETRYING)
            assert (decision.record.state, decision.step) == (State.FAILED, Step.DELIVER)
            assert type(error_of(decision)) is SubmitOutcomeUnknown

    def test_a_refusal_that_no_rule_retries_is_an_end(self) -> None:
        decision = advance(make_record(State.SUBMITTING), NotAccepted(RequestRejected("400", body="bad")), NOW, PLAIN)
        error = error_of(decision)
        assert (decision.record.state, type(error)) == (State.FAILED, SubmitRejected)
        assert (error.info["category"], error.details["body"]) == ("permanent", "bad")


class TestRetries:
    def test_retry_after_7_waits_at_least_7_seconds(self) -> None:
        for draw in (min, max):
            around = Surroundings(may_retry=lambda _error: True, draw=draw)
            refused = NotAccepted(RateLimited("slow down", retry_after=7))
            decision = advance(make_record(State.SUBMITTING), refused, NOW, around)
            assert (decision.step, decision.event) == (Step.SUBMIT, "retry")
            assert 7.0 <= decision.in_s <= 8.0

    def test_a_retry_is_a_new_attempt_in_line_with_the_cost_of_the_old_one(self) -> None:
        record = make_record(
            State.RUNNING, observed_percent=70.0, observed_banked_ms=100, observed_worker_id="w-1", money=Money(1.0)
        )
        decision = advance(record, Seen(remote(FAILED, error="boom", execution_ms=4_000)), NOW, RETRYING)
        queued = decision.record
        assert (queued.state, queued.retries, queued.remote_id, queued.submitted) == (State.QUEUED, 1, "", 0.0)
        assert (queued.observed.percent, queued.observed.banked_ms, queued.observed.worker_id) == (0.0, 0, "")
        assert (queued.money.paid, queued.money.reserved) == (5_000_000, 0), "4.1 s, each begun second whole"
        assert queued.ending is None

    def test_the_budget_is_the_limit(self) -> None:
        record = make_record(State.RUNNING, spec_max_retries=2, retries=2)
        decision = advance(record, Seen(remote(FAILED, error="boom")), NOW, RETRYING)
        assert (decision.record.state, decision.record.retries) == (State.FAILED, 2)

    @pytest.mark.parametrize(
        ("observation", "kind"),
        [
            (NotAccepted(NotConnected("no")), NotConnected),
            (Seen(remote(FAILED)), JobFailed),
            (Seen(remote(TIMED_OUT)), JobTimedOut),
            (OutputBad(OutputInvalid("bad")), OutputInvalid),
        ],
        ids=["refused", "failed", "timed out", "bad output"],
    )
    def test_the_tasks_rule_is_asked_about_the_error_itself(
        self, observation: Observation, kind: type[Exception]
    ) -> None:
        asked: list[Exception] = []

        def may_retry(error: Exception) -> bool:
            asked.append(error)
            return True

        state = State.SUBMITTING if isinstance(observation, NotAccepted) else State.RUNNING
        decision = advance(make_record(state), observation, NOW, Surroundings(may_retry=may_retry))
        assert decision.record.state is State.QUEUED
        assert [type(error) for error in asked] == [kind]

    @pytest.mark.parametrize(
        ("said", "kind", "attempts"),
        [
            ("ComfyUI server (127.0.0.1:8188) not reachable after multiple retries.", "image", 4),
            ("ComfyUI server (127.0.0.1:8188) not reachable after multiple retries.", "lora", 4),
            ("CUDA out of memory", "image", 2),
            ("CUDA out of memory", "lora", 1),
            ("Missing 'workflow' parameter", "image", 1),
            ("Cannot access gated repo", "image", 1),
        ],
        ids=["transient", "transient training", "recoverable", "recoverable training", "permanent", "fatal"],
    )
    def test_the_verdict_decides_where_the_task_lists_nothing(self, said: str, kind: str, attempts: int) -> None:
        record, made = make_record(State.RUNNING, spec_max_retries=3, spec_kind=kind), 1
        while not (record := advance(record, Seen(remote(FAILED, error=said)), NOW, JUDGED).record).state.ended:
            record, made = record.with_(state=State.RUNNING, submitted=SUBMITTED), made + 1
        assert made == attempts

    def test_the_verdict_does_not_decide_over_a_refused_submit(self) -> None:
        refused = NotAccepted(RateLimited("slow down"))
        assert advance(make_record(State.SUBMITTING), refused, NOW, JUDGED).record.state is State.FAILED

    def test_a_transient_failure_uses_up_the_budget_of_the_job(self) -> None:
        record = make_record(State.RUNNING, spec_max_retries=1, retries=1)
        failed = Seen(remote(FAILED, error="ComfyUI server (127.0.0.1:8188) not reachable after multiple retries."))
        assert advance(record, failed, NOW, JUDGED).record.state is State.FAILED

    @pytest.mark.parametrize("around", [JUDGED, RETRYING], ids=["by the verdict", "listed by the task"])
    def test_what_brought_down_two_gpu_workers_is_not_given_to_a_third(self, around: Surroundings) -> None:
        crash = Seen(remote(FAILED, error="job timed out after 1 retries"))
        record = advance(make_record(State.RUNNING), crash, NOW, around).record
        assert (record.state, record.observed.crashes) == (State.QUEUED, 1)
        refused = advance(record.with_(state=State.SUBMITTING), NotAccepted(NotConnected("no")), NOW, RETRYING).record
        assert refused.observed.crashes == 1
        decision = advance(refused.with_(state=State.RUNNING, submitted=SUBMITTED), crash, NOW, around)
        error = error_of(decision)
        assert (decision.record.state, type(error), error.info["code"]) == (State.FAILED, JobFailed, "poison_input")
        assert error.details["crashes"] == 2
        assert error.details["last"]["code"] == "worker_crashed"

    def test_a_run_that_runpod_repeated_by_itself_counts_where_the_attempt_crashed(self) -> None:
        job = remote(FAILED, error="job timed out after 1 retries", retries=1)
        error = error_of(advance(make_record(State.RUNNING), Seen(job), NOW, RETRYING))
        assert (error.info["code"], error.details["crashes"]) == ("poison_input", 2)
        job = remote(FAILED, error="CUDA out of memory", retries=1)
        assert advance(make_record(State.RUNNING), Seen(job), NOW, JUDGED).record.observed.crashes == 0

    def test_other_failures_between_two_crashes_are_not_counted(self) -> None:
        record = make_record(State.RUNNING, observed_crashes=1)
        decision = advance(record, Seen(remote(FAILED, error="CUDA out of memory")), NOW, JUDGED)
        assert (decision.record.state, decision.record.observed.crashes) == (State.QUEUED, 1)

    @pytest.mark.parametrize(
        "observation",
        [Missing(), Trouble(ServerError("x")), NoAnswer(), OutcomeUnknown(), Uncollected("x"), Seen(remote(CANCELLED))],
        ids=repr,
    )
    def test_nothing_else_is_ever_tried_again(self, observation: Observation) -> None:
        record = make_record(State.RUNNING, observed_missing_since=NOW - 500, observed_troubles=15, spec_ttl_s=10.0)
        for now in (NOW, NOW + 10_000):
            assert advance(record, observation, now, RETRYING).record.retries == 0


def test_an_error_that_a_job_ends_with_is_told_as_it_is() -> None:
    error = OutputInvalid("The image is broken.", {"code": "output_invalid", "details": {"reason": "truncated"}})
    decision = advance(make_record(State.COLLECTING), OutputBad(error), NOW, PLAIN)
    assert decision.record.ending == described(error)
    assert decision.record.state is State.FAILED


def test_a_job_that_is_to_stop_does_not_wait_for_an_endpoint_in_trouble() -> None:
    """A deadline, or a cancel, ends a job although its endpoint answers nothing useful; the remote job is an orphan."""
    for seen in (Trouble(ServerError("no")), NoAnswer()):
        record, decision = make_record(State.RUNNING, cancel=CancelReason.DEADLINE, remote_id="r-1"), None
        for _ in range(8):
            decision = advance(record, seen, NOW, PLAIN)
            record = decision.record
        assert decision is not None
        assert record.state is State.TIMED_OUT
        assert decision.orphaned


def test_answers_that_can_never_be_read_end_a_job() -> None:
    record, decision = make_record(State.RUNNING, remote_id="r-1"), None
    for _ in range(24):
        decision = advance(record, Trouble(MalformedAnswer("not JSON")), NOW, PLAIN)
        record = decision.record
    assert decision is not None
    assert record.state is State.FAILED
    assert record.ending is not None
    assert record.ending["error"]["info"]["code"] == "malformed_answer"
    assert decision.orphaned
