"""Faults over time: when they act, what they do to jobs and workers, how they repeat, and how they are read."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.simulator import (
    Answer,
    AnyFault,
    CallWebhook,
    CrashWorker,
    Delay,
    EndpointConfig,
    ExpireResult,
    FailStart,
    FaultProgramme,
    LateProgress,
    LoseAnswer,
    NeverEnd,
    Operation,
    Phase,
    Reset,
    TruncateOutput,
    WorkerOperation,
    read_programme,
)
from ryla_tasks.simulator.endpoint import Endpoint
from ryla_tasks.simulator.fault_plan import FaultPlan
from ryla_tasks.simulator.jobs import SimJob
from ryla_tasks.simulator.programs import PROGRAMS

CHANCE = {
    "skip": st.integers(0, 2),
    "times": st.none() | st.integers(1, 4),
    "probability": st.sampled_from([0.2, 0.5, 1.0]),
    "burst": st.integers(1, 3),
}
OPERATIONS = st.sampled_from([Operation.RUN, Operation.STATUS, WorkerOperation.JOB_DONE])
CALL_FAULT = st.one_of(
    st.builds(LoseAnswer, op=OPERATIONS | st.just("*"), **CHANCE),
    st.builds(Answer, op=OPERATIONS, status=st.just(429), **CHANCE),
    st.builds(Delay, op=OPERATIONS, seconds=st.just(1.0), **CHANCE),
    st.builds(Reset, op=OPERATIONS, **CHANCE),
)
JOB_FAULT = st.one_of(
    st.builds(CrashWorker, **CHANCE),
    st.builds(NeverEnd, **CHANCE),
    st.builds(LateProgress, **CHANCE),
    st.builds(ExpireResult, after_s=st.just(3.0), **CHANCE),
    st.builds(TruncateOutput, **CHANCE),
    st.builds(FailStart, retry_s=st.just(5.0), **CHANCE),
)
TIME = st.floats(0, 60)


@st.composite
def programmes(draw: st.DrawFn, fault: st.SearchStrategy[AnyFault]) -> FaultProgramme:
    phases = []
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted((draw(TIME), draw(TIME)))
        to_s = end if end > start and draw(st.booleans()) else None
        phases.append(Phase(from_s=start, to_s=to_s, faults=tuple(draw(st.lists(fault, min_size=1, max_size=3)))))
    return FaultProgramme(phases=tuple(phases))


def plan(programme: FaultProgramme, seed: int) -> FaultPlan:
    made = FaultPlan(Random(seed))
    for phase in programme.phases:
        for fault in phase.faults:
            made.add(fault, phase.from_s, phase.to_s)
    return made


@given(programmes(CALL_FAULT), st.integers(), st.lists(st.tuples(OPERATIONS, st.sampled_from("ab"), TIME), max_size=60))
def test_the_same_seed_and_calls_make_the_same_strikes(
    programme: FaultProgramme, seed: int, calls: list[tuple[Operation, str, float]]
) -> None:
    first, second = plan(programme, seed), plan(programme, seed)
    assert [first.strike(op, job, now=now) for op, job, now in calls] == [
        second.strike(op, job, now=now) for op, job, now in calls
    ]
    assert first.view() == second.view()
    assert first.struck.total() == sum(view.struck for view in first.view())


@given(st.integers(), st.integers(0, 40), st.integers(0, 5))
def test_what_one_fault_sees_changes_nothing_for_another(seed: int, calls: int, other_calls: int) -> None:
    def draws(between: int) -> list[bool]:
        made = FaultPlan(Random(seed))
        made.add(LoseAnswer(op=Operation.RUN, times=None, probability=0.5))
        made.add(LoseAnswer(op=Operation.STATUS, times=None, probability=0.5))
        answers = []
        for _ in range(calls):
            for _ in range(between):
                made.strike(Operation.STATUS, None)
            answers.append(made.strike(Operation.RUN, None) is not None)
        return answers

    assert draws(0) == draws(other_calls)


def world(programme: FaultProgramme, seed: int, submits: list[float]) -> list[Any]:
    """What is seen of an endpoint under a programme, second by second."""
    config = EndpointConfig(endpoint_id="ep", program="echo", run_s=4, cold_start_s=3, execution_timeout_s=20)
    endpoint = Endpoint(config, PROGRAMS["echo"], Random(seed))
    endpoint.faults = plan(programme, seed)
    endpoint.open(0.0)
    jobs = [SimJob(f"{n}", {"n": n}, when, 300.0, 20.0) for n, when in enumerate(sorted(submits))]
    seen: list[Any] = []
    for second in range(120):
        endpoint.advance(second)
        for job in jobs:
            if second <= job.submitted_at < second + 1:
                endpoint.submit(job, second)
        seen.append((endpoint.health(), [job.status_fields(second) for job in endpoint.jobs.values()]))
    return [*seen, dict(endpoint.faults.struck)]


@settings(max_examples=40)
@given(programmes(JOB_FAULT), st.integers(), st.lists(TIME, max_size=8))
def test_the_same_seed_and_jobs_make_the_same_world(programme: FaultProgramme, seed: int, submits: list[float]) -> None:
    assert world(programme, seed, submits) == world(programme, seed, submits)


def test_a_phase_acts_from_its_first_second_up_to_its_last() -> None:
    made = FaultPlan(Random(0))
    made.add(Answer(op=Operation.RUN, status=429, times=None), 30, 60)
    assert [made.strike(Operation.RUN, None, now=now) is not None for now in (0, 29.9, 30, 59.9, 60)] == [
        False, False, True, True, False,
    ]  # fmt: skip


def test_in_a_phase_a_fault_has_no_limit_unless_it_gives_one() -> None:
    phase = Phase(faults=(Delay(seconds=1), Delay(seconds=1, times=1)))
    assert [fault.times for fault in phase.faults] == [None, 1]


def test_joined_workers_are_struck_by_name_only() -> None:
    made = FaultPlan(Random(0))
    made.add(LoseAnswer(times=None))
    assert made.strike(WorkerOperation.JOB_DONE, "a") is None
    made.add(LoseAnswer(op=WorkerOperation.JOB_DONE))
    assert made.strike(WorkerOperation.JOB_DONE, "a") is not None
    assert made.strike(Operation.RUN, None) is not None


def struck_job(*faults: AnyFault, until: float, **settings: Any) -> tuple[Endpoint, dict[str, Any] | None]:
    """A job of 4 s on a warm worker under faults, as it is at a time."""
    defaults = {"program": "echo", "workers_min": 1, "workers_max": 1, "run_s": 4, "steps": 4, "cold_start_s": 0}
    config = EndpointConfig(endpoint_id="ep", **{**defaults, **settings})
    endpoint = Endpoint(config, PROGRAMS["echo"], Random(0))
    for fault in faults:
        endpoint.faults.add(fault)
    endpoint.open(0.0)
    endpoint.advance(0.0)
    job = SimJob("job", {"n": 1}, 0.0, 300.0, 20.0)
    endpoint.submit(job, 0.0)
    endpoint.advance(until)
    return endpoint, job.status_fields(until) if "job" in endpoint.jobs else None


def test_a_worker_crash_gives_the_job_to_another() -> None:
    _, seen = struck_job(CrashWorker(after_s=3), until=8)
    assert seen is not None
    assert (seen["status"], seen["retries"]) == ("COMPLETED", 1)


def test_a_run_that_never_ends_times_out() -> None:
    assert struck_job(NeverEnd(), until=19)[1]["status"] == "IN_PROGRESS"  # type: ignore[index]
    assert struck_job(NeverEnd(), until=21)[1]["status"] == "TIMED_OUT"  # type: ignore[index]


def test_a_late_progress_undoes_the_end() -> None:
    before = struck_job(LateProgress(after_s=2), until=5)[1]
    after = struck_job(LateProgress(after_s=2), until=7)[1]
    assert before is not None
    assert after is not None
    assert (before["status"], after["status"], after["output"]["percent"]) == ("COMPLETED", "IN_PROGRESS", 100)
    assert struck_job(LateProgress(after_s=2), until=5000)[1] is None, "its retention goes on"


def test_a_result_can_expire_early() -> None:
    assert struck_job(ExpireResult(after_s=3), until=6)[1] is not None
    assert struck_job(ExpireResult(after_s=3), until=8)[1] is None


def test_workers_in_a_crash_loop_are_tried_again_until_one_starts() -> None:
    faults = FailStart(times=3, retry_s=10)
    endpoint, seen = struck_job(faults, until=25)
    assert seen == {"id": "job", "status": "IN_QUEUE"}
    assert endpoint.health()["workers"]["unhealthy"] == 1
    endpoint.advance(40)
    assert endpoint.jobs["job"].status_fields(40)["status"] == "COMPLETED"
    assert endpoint.faults.struck == {"fail_start": 3}
    assert endpoint.counters.starts == 1


def test_workers_can_be_throttled_for_a_while() -> None:
    endpoint, _ = struck_job(FailStart(state="throttled", retry_s=10), until=5)
    assert endpoint.health()["workers"]["throttled"] == 1
    endpoint.advance(15)
    assert endpoint.jobs["job"].status_fields(15)["status"] == "COMPLETED"


def test_a_truncated_output_keeps_its_shape() -> None:
    output = {"images": [{"data": "x" * 100, "filename": "a.png"}], "n": 2**60}
    spoiled = TruncateOutput().spoil(json.dumps(output).encode())
    assert spoiled is not None
    assert json.loads(spoiled) == {"images": [{"data": "x" * 50, "filename": "a.png"}], "n": 2**60}


GOOD = """
# A bad half minute.
seed: 7
phases:
  - from: 30s
    to: 1m
    endpoint: image
    faults:
      - {kind: answer, op: run, status: 429, probability: 0.3}
      - kind: call_webhook
        after_s: 5
  - faults:
      - kind: lose_answer
        op: job-done
        times: 2
"""


def test_a_programme_is_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "programme.yaml"
    file.write_text(GOOD)
    programme = read_programme(file)
    burst = Answer(op=Operation.RUN, status=429, probability=0.3, times=None)
    assert programme == FaultProgramme(
        seed=7,
        phases=(
            Phase(from_s=30, to_s=60, endpoint="image", faults=(burst, CallWebhook(after_s=5, times=None))),
            Phase(faults=(LoseAnswer(op=WorkerOperation.JOB_DONE, times=2),)),
        ),
    )
    assert FaultProgramme.model_validate(programme.model_dump(mode="json")) == programme
    with pytest.raises(ConfigurationError, match=r"phases\.0\.endpoint: there is no endpoint 'image'; there are: lora"):
        programme.check(["lora"])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed: 7", "sed: 7", "line 3: sed: there is no such field"),
        ("30s", "30x", "line 5: phases.0.from: a time is"),
        ("to: 1m", "to: 10s", "line 5: phases.0: `to` (10 s) is not after `from` (30 s)"),
        ("0.3", "3", "line 9: phases.0.faults.0.probability: Input should be less than or equal to 1"),
        ("status: 429", "statu: 429", "line 9: phases.0.faults.0.statu: there is no such field"),
        ("status: 429, ", "", "line 9: phases.0.faults.0.status: Field required"),
        ("after_s: 5", "after_s: 5\n        after_s: 6", "line 12: after_s: given twice"),
        ("lose_answer", "loose", "line 13: phases.1.faults.0: Input tag 'loose'"),
        ("job-done", "walk", "line 14: phases.1.faults.0.op: there is no operation 'walk'; there are: *, run"),
        ("phases:", "phases: [", "not YAML"),
        ("seed: 7", "\tseed: 7", "line 3: not YAML"),
        (GOOD, "[]", "line 1: a fault programme has the fields seed and phases"),
        (GOOD, "phases: 3", "line 1: phases: "),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    file = tmp_path / "programme.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        read_programme(file)
    assert str(caught.value).startswith(str(file))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
