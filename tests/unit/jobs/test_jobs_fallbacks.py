"""When a job takes a fallback, which one, and what becomes of its record."""

from __future__ import annotations

from typing import Any

import pytest
from job_samples import NOW, PLAIN, make_alternative, make_record, make_spec, remote

from ryla_tasks.errors import (
    AnswerLost,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    OutputInvalid,
    RateLimited,
    RequestRejected,
    SubmitOutcomeUnknown,
)
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.falling_back import CODES, has_present_input, lines_of, problem_with, usual_codes
from ryla_tasks.jobs.lifecycle import (
    Decision,
    Missing,
    NotAccepted,
    Observation,
    OutcomeUnknown,
    OutputBad,
    Seen,
    Step,
    Surroundings,
    Uncollected,
    advance,
)
from ryla_tasks.jobs.money import Money
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import CancelReason, JobRecord, JobSpec, Observed
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.verdicts.table import ROWS

MODEL, WORKFLOW, ENDPOINT = FallbackKind

#: A task that leaves what follows to the verdict, as ours do.
JUDGED = Surroundings(may_retry=lambda error: isinstance(error, RateLimited), may_resubmit=lambda _error: True)

MISSING_NODE = Seen(remote(RemoteStatus.FAILED, error="Cannot execute because node NoSuchNode does not exist."))
OUT_OF_MEMORY = Seen(remote(RemoteStatus.FAILED, error="CUDA out of memory"))
CRASHED = Seen(remote(RemoteStatus.FAILED, error="job timed out after 0 retries"))
SLOW = Seen(remote(RemoteStatus.TIMED_OUT, execution_ms=600_000))


def record(*fallbacks: Any, state: State = State.RUNNING, **changes: Any) -> JobRecord:
    return make_record(state, spec_fallbacks=tuple(fallbacks), spec_label="first", spec_seed=9, **changes)


def after(job: JobRecord, *seen: Observation, around: Surroundings = JUDGED) -> Decision:
    """The decision on the last of these observations, each made of an attempt of its own."""
    for number, observation in enumerate(seen):
        if number:
            job = job.with_(state=State.RUNNING, attempt=job.attempt + 1, remote_id=f"r-{number + 1}", submitted=NOW)
        decision = advance(job, observation, NOW + 5, around)
        job = decision.record
    return decision


def error_of(decision: Decision) -> Any:
    return raised("job-1", decision.record.ending or {})


class TestTaking:
    def test_a_permanent_failure_takes_it_at_once_as_a_new_attempt_that_is_no_retry(self) -> None:
        job = record(
            make_alternative(0, "missing_node", expected_images=2),
            retries=2,
            observed_percent=70.0,
            observed_execution_ms=4_000,
            observed_banked_ms=500,
            money=Money(0.01, reserved=1),
        )
        decision = after(job, MISSING_NODE)
        taken = decision.record
        assert (taken.state, decision.step, decision.in_s, decision.event) == (
            State.QUEUED, Step.SUBMIT, 0.0, "fallback",
        )  # fmt: skip
        assert decision.fallback_input == 0
        assert (taken.retries, taken.attempt, taken.remote_id, taken.submitted) == (0, 1, "", 0.0)
        assert [line.to_json() for line in taken.fallbacks] == [
            {"kind": "workflow", "from": "first", "to": "input-0", "why": "missing_node"}
        ]
        assert taken.spec == make_spec(
            label="input-0", seed=0, expected_images=2, expected_run_s=5.0, only=("runpod:0",)
        )
        assert (taken.money.paid, taken.money.reserved, taken.observed.banked_ms) == (50_000, 0, 0), "4.5 s"
        told = progress_of(taken, NOW)
        assert (told.percent, told.attempt) == (0.0, 2)
        assert told.message == ("The workflow uses a node that the GPU worker does not have. Trying a simpler way")

    def test_it_is_told_of_another_model_as_such(self) -> None:
        decision = after(
            record(make_alternative(0, "training_memory", kind=MODEL)), failing("OOM during training step")
        )
        assert decision.record.observed.message.endswith("Trying another model")

    def test_the_same_failure_is_not_retried_first_though_the_task_lists_it(self) -> None:
        always = Surroundings(may_retry=lambda _error: True)
        assert after(record(make_alternative(0, "missing_node")), MISSING_NODE, around=always).event == "fallback"
        assert after(record(make_alternative(0, "out_of_memory")), MISSING_NODE, around=always).event == "retry"

    def test_what_may_pass_takes_it_only_after_the_retries(self) -> None:
        job = record(make_alternative(0, "out_of_memory", "rate_limited"))
        assert after(job, OUT_OF_MEMORY).event == "retry"
        assert after(job, OUT_OF_MEMORY, OUT_OF_MEMORY).event == "fallback"
        busy = NotAccepted(RateLimited("slow down", retry_after=9))
        assert [after(job, *[busy] * count).event for count in (1, 2, 3, 4)] == ["retry"] * 3 + ["fallback"]

    def test_each_input_has_the_retries_of_its_own(self) -> None:
        job = record(make_alternative(0, "out_of_memory"), make_alternative(1, "out_of_memory"))
        events = [after(job, *[OUT_OF_MEMORY] * count).event for count in range(1, 7)]
        assert events == ["retry", "fallback"] * 2 + ["retry", "state"]

    def test_a_refused_submit_and_a_bad_output_may_take_it_too(self) -> None:
        job = record(make_alternative(0, "payload_too_large", "output_invalid"), state=State.SUBMITTING)
        refused = NotAccepted(RequestRejected("too large", http_status=413))
        assert after(job, refused).record.fallbacks[0].why == "payload_too_large"
        bad = OutputBad(OutputInvalid("bad"))
        assert after(job.with_(state=State.COLLECTING), bad).record.fallbacks[0].why == "output_invalid"

    def test_the_execution_time_out_is_a_failure_like_others(self) -> None:
        job = record(make_alternative(0, *usual_codes(WORKFLOW)), spec_max_retries=0, money=Money(0.01))
        decision = after(job, SLOW)
        assert decision.record.fallbacks[0].why == "remote_time_out"
        assert decision.record.money.paid == 6_000_000


class TestNotTaking:
    @pytest.mark.parametrize(
        "observation",
        [OutcomeUnknown(AnswerLost("cut")), OutcomeUnknown(), Seen(remote(RemoteStatus.CANCELLED))],
        ids=["answer lost", "process gone", "cancelled over there"],
    )
    def test_what_may_still_run_or_was_cancelled_takes_none(self, observation: Observation) -> None:
        decision = after(record(make_alternative(0, *CODES)), observation)
        assert decision.record.fallbacks == ()
        assert decision.record.state.ended

    def test_nor_does_what_the_endpoint_lost_or_what_cannot_be_stored(self) -> None:
        job = record(make_alternative(0, *CODES), observed_missing_since=NOW - 3_600, observed_seen_at=NOW - 3_600)
        lost = advance(job, Missing(), NOW, JUDGED)
        assert error_of(lost).info["code"] in ("remote_lost", "result_expired")
        job = record(make_alternative(0, *CODES), state=State.COLLECTING, observed_troubles=15)
        assert error_of(advance(job, Uncollected("disk full"), NOW, JUDGED)).info["code"] == "uncollected"

    def test_a_job_that_is_to_stop_takes_none(self) -> None:
        decision = after(record(make_alternative(0, "missing_node"), cancel=CancelReason.USER), MISSING_NODE)
        assert (decision.record.state, decision.fallback_input) == (State.CANCELLED, None)
        assert (type(error_of(decision)), error_of(decision).details) == (JobCancelled, None)

    def test_a_code_that_none_lists_ends_the_job(self) -> None:
        decision = after(record(make_alternative(0, "out_of_memory")), MISSING_NODE)
        assert error_of(decision).info["code"] == "missing_node"
        assert "fallbacks" not in (error_of(decision).details or {})


class TestElsewhere:
    ELSEWHERE = Surroundings(may_retry=lambda _error: False, elsewhere="runpod:ep2")

    def test_what_is_the_targets_doing_goes_to_another_target_before_another_input(self) -> None:
        job = record(make_alternative(0, "rate_limited", "submit_rejected"), state=State.SUBMITTING)
        busy, refused = NotAccepted(RateLimited("slow down")), NotAccepted(RequestRejected("no"))
        moved = advance(job, busy, NOW, self.ELSEWHERE)
        assert (moved.event, moved.fallback_input, moved.record.spec) == ("failover", None, job.spec)
        assert advance(job, busy, NOW, Surroundings()).event == "fallback"
        assert advance(job, refused, NOW, self.ELSEWHERE).event == "fallback"

    def test_lines_come_in_the_order_in_which_things_happened(self) -> None:
        job = record(make_alternative(0, "missing_node"), state=State.SUBMITTING, target="t1")
        job = advance(job, NotAccepted(RateLimited("slow down")), NOW, self.ELSEWHERE).record
        assert [(line["kind"], line["from"], line["to"]) for line in lines_of(job)] == [("endpoint", "t1", "")]
        job = advance(job.with_(state=State.RUNNING, target="t2", attempt=2), MISSING_NODE, NOW, PLAIN).record
        job = job.with_(state=State.SUBMITTING, target="t2", attempt=3)
        job = advance(job, NotAccepted(RateLimited("slow down")), NOW, self.ELSEWHERE).record
        assert [(line["kind"], line["from"], line["to"]) for line in lines_of(job.with_(target="t3"))] == [
            ("endpoint", "t1", "t2"),
            ("workflow", "first", "input-0"),
            ("endpoint", "t2", "t3"),
        ]
        assert [target for target, _why in job.left] == ["t1", "t2"]
        # Its first failure, for a developer, is the one of which something was said.
        ended = advance(job.with_(state=State.RUNNING), MISSING_NODE, NOW, PLAIN)
        assert "NoSuchNode" in error_of(ended).details["first_error"]["details"]["error"]


class TestOrder:
    def test_the_first_that_lists_the_code_and_those_passed_over_are_gone(self) -> None:
        job = record(make_alternative(0, "out_of_memory"), make_alternative(1, "missing_node"),
                     make_alternative(2, "out_of_memory"))  # fmt: skip
        decision = after(job, MISSING_NODE)
        assert decision.fallback_input == 1
        assert [one.place for one in decision.record.spec.fallbacks] == [2]
        assert after(job, MISSING_NODE, OUT_OF_MEMORY, OUT_OF_MEMORY).fallback_input == 2
        assert after(job, MISSING_NODE, MISSING_NODE).record.state is State.FAILED

    def test_the_fallbacks_of_one_that_is_passed_over_are_passed_over_with_it(self) -> None:
        first = make_alternative(0, "out_of_memory", own=2)
        job = record(first, make_alternative(1, "missing_node"), make_alternative(2, "missing_node"),
                     make_alternative(3, "missing_node"))  # fmt: skip
        assert after(job, MISSING_NODE).fallback_input == 3

    def test_one_that_is_taken_goes_on_with_its_own_and_then_with_the_others(self) -> None:
        job = record(make_alternative(0, "missing_node", own=1), make_alternative(1, "missing_node"),
                     make_alternative(2, "missing_node"))  # fmt: skip
        places = [after(job, *[MISSING_NODE] * count).fallback_input for count in (1, 2, 3, 4)]
        assert places == [0, 1, 2, None]


class TestCrashes:
    def test_another_workflow_starts_with_a_clean_sheet_if_it_lists_poison(self) -> None:
        job = record(make_alternative(0, "poison_input"))
        decision = after(job, CRASHED, CRASHED)
        assert (decision.event, decision.record.fallbacks[0].why) == ("fallback", "poison_input")
        assert decision.record.observed.crashes == 0
        ended = after(job, *[CRASHED] * 4)
        assert error_of(ended).info["code"] == "poison_input"

    def test_one_that_does_not_list_it_is_not_given_to_a_third_worker(self) -> None:
        ended = after(record(make_alternative(0, "worker_crashed")), CRASHED, CRASHED)
        assert error_of(ended).info["code"] == "poison_input"

    def test_crashes_of_the_same_workflow_count_on_with_another_model(self) -> None:
        job = record(make_alternative(0, "worker_crashed", kind=MODEL), spec_max_retries=0)
        decision = after(job, CRASHED)
        assert (decision.event, decision.record.observed.crashes) == ("fallback", 1)
        assert error_of(after(job, CRASHED, CRASHED)).info["code"] == "poison_input"


class TestTheEnd:
    def test_it_ends_with_the_last_error_whose_details_name_the_first(self) -> None:
        job = record(make_alternative(0, "missing_node"), make_alternative(1, "out_of_memory"), spec_max_retries=0)
        error = error_of(after(job, MISSING_NODE, OUT_OF_MEMORY, SLOW))
        assert (type(error), error.info["code"]) == (JobTimedOut, "remote_time_out")
        assert error.details["execution_ms"] == 600_000
        assert [line["why"] for line in error.details["fallbacks"]] == ["missing_node", "out_of_memory"]
        first = error.details["first_error"]
        assert (first["code"], first["message"]) == (
            "missing_node", "The workflow uses a node that the GPU worker does not have.",
        )  # fmt: skip
        assert "NoSuchNode" in first["details"]["error"]

    def test_details_that_are_no_object_are_kept_beside_it(self) -> None:
        job = record(make_alternative(0, "missing_node"))
        bad = OutputInvalid("bad", {"code": "output_invalid", "details": ["three", "files"]})
        decision = advance(after(job, MISSING_NODE).record.with_(state=State.COLLECTING), OutputBad(bad), NOW, JUDGED)
        assert error_of(decision).details["details"] == ["three", "files"]
        assert error_of(decision).details["first_error"]["code"] == "missing_node"

    def test_a_long_story_of_the_first_error_is_cut(self) -> None:
        decision = after(record(make_alternative(0, "worker_error")), failing("no " * 5_000))
        line = decision.record.fallbacks[0]
        assert line.error is not None
        assert len(str(line.error)) < 5_000

    def test_a_lost_answer_after_a_fallback_names_the_first_error_too(self) -> None:
        decision = after(record(make_alternative(0, "missing_node")), MISSING_NODE, OutcomeUnknown())
        assert type(error_of(decision)) is SubmitOutcomeUnknown
        assert error_of(decision).details["first_error"]["code"] == "missing_node"


class TestCodes:
    def test_codes_are_those_of_the_table_that_another_attempt_may_follow(self) -> None:
        listed = {row.code for seam in ROWS for row in seam.rows}
        assert CODES - listed == {"poison_input", "output_missing", "output_invalid"}
        assert not CODES & {"submit_unknown", "remote_cancelled", "remote_lost", "ttl", "just_made", "uncollected"}

    @pytest.mark.parametrize("kind", [MODEL, WORKFLOW])
    def test_the_usual_ones_are_allowed(self, kind: FallbackKind) -> None:
        assert problem_with(usual_codes(kind), kind) == ""
        assert {"missing_model", "out_of_memory", "remote_time_out"} <= set(usual_codes(kind))
        assert ("missing_node" in usual_codes(kind)) == (kind is WORKFLOW)
        assert "poison_input" not in usual_codes(kind)

    def test_wrong_ones_are_named(self) -> None:
        assert "'oom' is no code that a fallback can follow; those are: comfyui_died" in problem_with(["oom"], WORKFLOW)
        assert "'remote_lost' is no code" in problem_with(["missing_model", "remote_lost"], MODEL)
        assert problem_with(["poison_input"], WORKFLOW) == ""
        assert "needs another workflow" in problem_with(["poison_input"], MODEL)


def failing(text: str) -> Seen:
    return Seen(remote(RemoteStatus.FAILED, error=text))


def test_an_attempt_belongs_to_the_input_that_it_was_made_with() -> None:
    assert has_present_input(make_record(), 1)
    lines = (Fallback(WORKFLOW, "a", "b", "missing_node", 2), Fallback(ENDPOINT, "t1", "t2", "stuck", 4))
    job = make_record(attempt=5, fallbacks=lines)
    assert [has_present_input(job, attempt) for attempt in (1, 2, 3, 4, 5)] == [False, False, True, True, True]


def test_a_line_and_a_spec_are_read_as_they_were_written() -> None:
    line = Fallback(MODEL, "a", "b", "missing_model", 3, {"code": "missing_model", "details": {"x": 1}})
    assert Fallback.of({**line.kept(), "newer": 1}) == line
    spec = make_spec(fallbacks=(make_alternative(0, "missing_model", kind=MODEL, own=1), make_alternative(1, "x")))
    read = JobSpec.from_json(spec.to_json())
    assert read == spec
    assert [type(one.kind) for one in read.fallbacks] == [FallbackKind, FallbackKind]


def test_nothing_of_a_job_without_fallbacks_is_longer() -> None:
    assert "fallbacks" not in make_spec().to_json()
    assert Observed().to_json() == "{}"
    assert type(error_of(after(record(), MISSING_NODE))) is JobFailed
