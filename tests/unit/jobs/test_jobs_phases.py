"""What a job waits for, told from /status, /health and the target's history."""

from __future__ import annotations

from dataclasses import replace

import pytest
from job_samples import NOW, SUBMITTED, make_record, remote

from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.lifecycle import Decision, Seen, Surroundings, advance
from ryla_tasks.jobs.phases import Outlook
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import EndpointStats, Sample
from ryla_tasks.jobs.stuck import Cause, Watch

COLD = EndpointStats.of(
    [Sample(float(n * 1_000), State.COMPLETED, cold=True, delay_s=delay, run_s=8.0) for n, delay in enumerate(
        (40.0, 45.0, 60.0, 70.0, 88.0, 90.0, 300.0))]
)  # fmt: skip
WARM = EndpointStats.of([Sample(float(n), State.COMPLETED, delay_s=9.0 + n, run_s=8.0) for n in range(5)])


def outlook(*, at: float = NOW - 5, queued: int = 1, stats: EndpointStats | None = None, **workers: int) -> Outlook:
    return Outlook(Watch(at, Health(at, {"inQueue": queued}, workers)), stats or EndpointStats())


def polled(
    record: JobRecord, known: Outlook, status: RemoteStatus = RemoteStatus.IN_QUEUE, now: float = NOW
) -> Decision:
    return advance(record, Seen(remote(status)), now, Surroundings(outlook=known))


@pytest.mark.parametrize(
    ("workers", "state"),
    [
        ({"initializing": 1}, State.STARTING),
        ({"initializing": 1, "ready": 1}, State.WAITING),
        ({"initializing": 1, "running": 2}, State.WAITING),
        ({}, State.WAITING),
        ({"throttled": 1}, State.WAITING),
    ],
    ids=repr,
)
def test_starting_is_a_worker_on_its_way_and_none_up(workers: dict[str, int], state: State) -> None:
    assert polled(make_record(), outlook(**workers)).record.state is state


def test_a_job_in_progress_runs_whatever_health_says() -> None:
    record = polled(make_record(), outlook(initializing=1)).record
    decision = polled(record, outlook(at=NOW, initializing=1), RemoteStatus.IN_PROGRESS)
    assert (decision.record.state, decision.event) == (State.RUNNING, "state")
    assert decision.record.observed.waiting == ""


def test_a_process_that_knows_less_does_not_take_a_phase_back() -> None:
    record = polled(make_record(), outlook(initializing=1)).record
    for known in (Outlook(), outlook(at=NOW - 60), outlook(at=NOW - 5, initializing=1)):
        decision = polled(record, known, now=NOW + 1)
        assert (decision.record.state, decision.event) == (State.STARTING, "")
        assert decision.record.observed == replace(record.observed, seen_at=decision.record.observed.seen_at)
    assert polled(record, outlook(at=NOW + 30, ready=1), now=NOW + 31).record.state is State.WAITING


def test_health_of_another_time_says_nothing() -> None:
    assert polled(make_record(), outlook(at=NOW - 91, initializing=1)).record.state is State.WAITING


def test_a_starting_job_is_told_what_is_usual_here() -> None:
    decision = polled(make_record(), outlook(initializing=1, stats=COLD), now=SUBMITTED + 20)
    told = progress_of(decision.record, SUBMITTED + 20)
    assert (told.message, decision.event) == ("Starting a GPU, usually 45-90 s", "state")
    assert told.eta_s == 50.0 + 8.0
    assert progress_of(decision.record, SUBMITTED + 200).eta_s == 8.0


def test_nothing_is_called_usual_that_hardly_ever_happened() -> None:
    few = EndpointStats.of([Sample(0.0, State.COMPLETED, cold=True, delay_s=60.0, run_s=8.0)])
    decision = polled(make_record(), outlook(initializing=1, stats=few))
    assert progress_of(decision.record, NOW).message == "Starting a GPU"


def test_a_place_in_line_is_told_only_where_it_is_known() -> None:
    def message(known: Outlook) -> str:
        return progress_of(polled(make_record(), known).record, NOW).message

    assert message(outlook(queued=4, running=1)) == "Waiting for a GPU: at most 3 jobs before yours"
    assert message(outlook(queued=2, running=1)) == "Waiting for a GPU: at most 1 job before yours"
    assert message(outlook(queued=1, running=1)) == "Waiting for a GPU"
    assert message(outlook(queued=400, running=1)) == "Waiting for a GPU"
    assert message(outlook(queued=4)) == "Waiting for a GPU"
    assert message(outlook(queued=1, running=1, stats=WARM)) == "Waiting for a GPU, usually about 10 s"
    fresh = make_record(submitted=NOW - 1)
    before = outlook(at=NOW - 20, queued=4, running=1)
    assert progress_of(polled(fresh, before).record, NOW).message == "Waiting for a GPU"


def test_a_job_is_cold_if_health_asked_since_its_submit_shows_no_worker() -> None:
    fresh = make_record(submitted=NOW - 10)
    assert polled(fresh, outlook(at=NOW - 5, initializing=1)).record.observed.cold
    assert polled(fresh, outlook(at=NOW - 5)).record.observed.cold
    assert not polled(fresh, outlook(at=NOW - 20, initializing=1)).record.observed.cold
    assert not polled(fresh, outlook(at=NOW - 5, initializing=1, ready=1)).record.observed.cold
    assert not polled(fresh, Outlook()).record.observed.cold


def test_stuck_is_told_once_with_its_cause_and_taken_back() -> None:
    health = Health(NOW - 5, {"inQueue": 1}, {"throttled": 1})
    known = Outlook(Watch(NOW - 5, health, cause=Cause.THROTTLED, since=NOW - 600, stuck=True), COLD)
    first = polled(make_record(), known)
    assert (first.event, first.record.state, first.record.observed.stuck) == ("stuck", State.WAITING, "throttled")
    assert progress_of(first.record, NOW).message == Cause.THROTTLED.sentence
    later = replace(known, watch=replace(known.watch, at=NOW + 25))
    assert polled(first.record, later, now=NOW + 30).event == ""
    over = polled(first.record, outlook(at=NOW + 55, initializing=1), now=NOW + 60)
    assert (over.event, over.record.observed.stuck) == ("state", "")
    assert over.record.retries == 0


def test_waiting_is_never_a_failure_by_itself() -> None:
    """Eight minutes is the worst cold start seen; a job's ttl and deadline alone end it."""
    record, now = make_record(spec_ttl_s=3_600.0), SUBMITTED
    while now < SUBMITTED + 3_600:
        decision = polled(record, outlook(at=now, unhealthy=1), now=now)
        record, now = decision.record, now + decision.in_s
        assert record.state is State.WAITING
    assert (record.attempt, record.retries) == (1, 0)


def test_a_restarted_job_that_no_gpu_can_take_is_told_so() -> None:
    health = Health(NOW - 5, {"inQueue": 1}, {"unhealthy": 1})
    known = Outlook(Watch(NOW - 5, health, cause=Cause.UNHEALTHY, since=NOW - 600, stuck=True))
    record = make_record(State.RUNNING, observed_running_since=NOW - 60, observed_worker_id="w-1")
    decision = polled(record, known)
    assert (decision.event, decision.record.observed.stuck) == ("restarted", "")
    decision = polled(decision.record, known)
    assert (decision.event, decision.record.state) == ("stuck", State.WAITING)
    assert progress_of(decision.record, NOW).message == Cause.UNHEALTHY.sentence
