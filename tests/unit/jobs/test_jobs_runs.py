"""A platform re-dispatch is the same attempt: the percentage is held, the user is told, both runs are costed once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import NOW, PLAIN, RETRYING, TRUNCATED, make_record, remote

from ryla_tasks.jobs.cost import estimate
from ryla_tasks.jobs.lifecycle import Seen, advance
from ryla_tasks.jobs.money import Money
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import State

IN_QUEUE, IN_PROGRESS, COMPLETED = RemoteStatus.IN_QUEUE, RemoteStatus.IN_PROGRESS, RemoteStatus.COMPLETED


def running(**fields: object) -> JobRecord:
    seen = {"percent": 60.0, "worker_id": "w-a", "running_since": NOW - 10, "execution_ms": 9_000, **fields}
    return make_record(State.RUNNING, **{f"observed_{name}": value for name, value in seen.items()})


@pytest.mark.parametrize(
    ("again", "state"),
    [
        (remote(IN_QUEUE), State.WAITING),
        (remote(IN_QUEUE, worker_id="w-a"), State.WAITING),
        (remote(IN_QUEUE, retries=1), State.WAITING),
        (remote(IN_PROGRESS, worker_id="w-b"), State.RUNNING),
        (remote(IN_PROGRESS, retries=1), State.RUNNING),
        (remote(IN_PROGRESS, worker_id="w-b", retries=1, output=3), State.RUNNING),
    ],
    ids=lambda value: f"{value.status} {value.worker_id} {value.retries}" if isinstance(value, RemoteJob) else value,
)
def test_a_restart_holds_the_percentage_and_tells_the_user(again: RemoteJob, state: State) -> None:
    decision = advance(running(), Seen(again), NOW, RETRYING)
    record = decision.record
    assert (decision.event, record.state, record.attempt, record.retries) == ("restarted", state, 1, 0)
    assert (record.observed.percent, record.observed.dispatches) == (60.0, 1)
    assert (record.observed.banked_ms, record.observed.execution_ms) == (9_000, None)
    assert progress_of(record, NOW).message == "Restarted on another GPU"


def test_a_restart_is_told_once_though_it_shows_in_three_ways() -> None:
    record, events = running(), []
    for seen in (
        remote(IN_QUEUE, worker_id="w-a"),
        remote(IN_QUEUE, worker_id="w-a", retries=1),
        remote(IN_PROGRESS, worker_id="w-b", retries=1, execution_ms=500),
        remote(IN_PROGRESS, worker_id="w-b", retries=1, execution_ms=900, output={"message": "Sampling"}),
    ):
        decision = advance(record, Seen(seen), NOW, PLAIN)
        record = decision.record
        events.append(decision.event)
    assert events == ["restarted", "", "state", "progress"]
    assert (record.observed.dispatches, record.observed.banked_ms, record.observed.execution_ms) == (1, 9_000, 900)
    assert progress_of(record, NOW).message == "Sampling"


def test_several_restarts_between_two_polls_are_told_once() -> None:
    record = advance(running(), Seen(remote(IN_PROGRESS, worker_id="w-d", retries=3)), NOW, PLAIN).record
    decision = advance(record, Seen(remote(IN_PROGRESS, worker_id="w-d", retries=3)), NOW, PLAIN)
    assert (record.observed.dispatches, decision.event) == (3, "progress")


def test_a_restart_is_noticed_across_an_unknown_status() -> None:
    record = advance(running(), Seen(remote(RemoteStatus.OTHER)), NOW, PLAIN).record
    decision = advance(record, Seen(remote(IN_QUEUE)), NOW, PLAIN)
    assert (decision.event, decision.record.observed.banked_ms) == ("restarted", 9_000)


def test_a_restart_that_only_the_end_shows_is_costed() -> None:
    """The polls saw a run on one GPU; the end comes from another."""
    seen = remote(COMPLETED, worker_id="w-b", retries=1, execution_ms=3_000, output={"x": 1})
    record = advance(running().with_(money=Money(0.5)), Seen(seen), NOW, PLAIN).record
    assert (record.observed.banked_ms, record.observed.execution_ms) == (9_000, 3_000)
    cost = estimate(record, record.observed.execution_ms)
    assert (cost["usd"], cost["billed_s"], cost["price_per_s"]) == (6.0, 12, 0.5)


def test_the_time_of_a_run_whose_time_the_cloud_never_gave_is_what_was_watched() -> None:
    """RunPod says `executionTime` at the end only."""
    record = running(execution_ms=None)
    assert advance(record, Seen(remote(IN_QUEUE)), NOW, PLAIN).record.observed.banked_ms == 10_000
    seen = remote(COMPLETED, worker_id="w-b", execution_ms=4_000)
    assert advance(record, Seen(seen), NOW, PLAIN).record.observed.banked_ms == 6_000
    failed = advance(record.with_(money=Money(0.5)), Seen(remote(RemoteStatus.FAILED, error="x")), NOW, RETRYING).record
    assert (failed.state, failed.money.paid) == (State.QUEUED, 5_000_000), "ten seconds"


def test_a_job_that_never_ran_costs_nothing() -> None:
    record = advance(make_record(), Seen(remote(IN_QUEUE, retries=1)), NOW, PLAIN).record
    assert record.observed.banked_ms == 0
    waiting = make_record().with_(money=Money(0.5, reserved=900))
    cancelled = advance(waiting, Seen(remote(RemoteStatus.CANCELLED)), NOW, RETRYING).record
    assert (cancelled.state, cancelled.money.paid, cancelled.money.reserved) == (State.CANCELLED, 0, 0)


def test_a_known_execution_time_is_not_forgotten_by_an_answer_without_one() -> None:
    record = advance(running(), Seen(remote(IN_PROGRESS)), NOW, PLAIN).record
    assert record.observed.execution_ms == 9_000
    assert advance(record, Seen(TRUNCATED), NOW, PLAIN).record.observed.execution_ms == 9_000


@dataclass(frozen=True)
class Run:
    """One run as polls see it: the execution times that they read, and how the next run begins."""

    read_ms: tuple[int, ...]
    queued_between: bool


RUNS = st.lists(
    st.builds(
        Run,
        read_ms=st.lists(st.integers(0, 100_000), min_size=1, max_size=3).map(lambda times: tuple(sorted(times))),
        queued_between=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(runs=RUNS, counted=st.booleans(), watched_last=st.booleans(), last_ms=st.integers(0, 100_000))
def test_every_run_is_banked_once(runs: list[Run], counted: bool, watched_last: bool, last_ms: int) -> None:
    """Whether the platform counts its retries or not, and whether polls see the queue between runs or not."""
    record, now, restarts = make_record(), NOW, 0
    answers: list[RemoteJob] = []
    for number, run in enumerate(runs):
        seen = remote(IN_PROGRESS, worker_id=f"w-{number}", retries=number if counted else 0)
        answers += [replace(seen, execution_ms=read) for read in run.read_ms]
        if run.queued_between:
            answers.append(replace(seen, status=IN_QUEUE, execution_ms=None, retries=number + 1 if counted else 0))
    final = remote(COMPLETED, worker_id="w-last", execution_ms=last_ms, retries=len(runs) if counted else 0)
    if watched_last:
        answers.append(replace(final, status=IN_PROGRESS, execution_ms=last_ms // 2))
    for answer in [*answers, final]:
        now += 3.0
        decision = advance(record, Seen(answer), now, PLAIN)
        record = decision.record
        restarts += decision.event == "restarted"
    assert record.state is State.COLLECTING
    assert record.observed.banked_ms == sum(run.read_ms[-1] for run in runs)
    assert record.observed.execution_ms == last_ms
    assert record.observed.dispatches == len(runs)
    seen_at_the_end_only = not watched_last and not runs[-1].queued_between
    assert restarts == len(runs) - seen_at_the_end_only
