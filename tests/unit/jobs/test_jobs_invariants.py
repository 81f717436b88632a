"""Whatever comes, in whatever order, late, lost or twice, a job keeps the design's invariants and ends.

A driver uses `advance` as the engine does: claims hand out a record under a fence, each step gets the observations that
it can make, decisions are settled under the claim's fence, now or much later or twice or never.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fenced_store import Claim, FencedStore
from hypothesis import given, settings
from hypothesis import strategies as st
from job_samples import (
    BROKEN,
    LOSSES,
    REFUSALS,
    SPECS,
    SUBMITTED,
    TROUBLES,
    TRUNCATED,
    UNDER_WAY,
    UNKIND_TEXTS,
    answers,
    one_of,
)

from ryla_tasks.errors import JobFailed, OutputInvalid, OutputMissing, RateLimited, ServerError
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.health import Health
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
)
from ryla_tasks.jobs.phases import NOTHING_KNOWN, Outlook
from ryla_tasks.jobs.planner import LONGEST_GAP_S
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import POLLED, State
from ryla_tasks.jobs.stats import EndpointStats, Sample
from ryla_tasks.jobs.stuck import Cause, Watch

RESULT = {"artifacts": [], "seed": 7}

POLL_OBSERVATIONS = st.one_of(
    answers(UNDER_WAY).map(Seen),
    answers(UNDER_WAY).map(Seen),
    answers([RemoteStatus.COMPLETED]).map(Seen),
    answers(BROKEN).map(Seen),
    TROUBLES.map(Trouble),
    one_of([Missing(), NoAnswer(), Seen(TRUNCATED)]),
)
DELIVER_OBSERVATIONS = st.one_of(
    st.just(Collected(RESULT)),
    one_of([OutputInvalid, OutputMissing]).map(lambda kind: OutputBad(kind("bad", {"details": "d"}))),
    one_of(UNKIND_TEXTS).map(Uncollected),
    answers([*UNDER_WAY, *BROKEN]).map(Seen),
    st.just(Missing()),
)

#: What a process may know of the target: by how many seconds old, which workers, whether no worker can come.
HISTORY = EndpointStats.of([Sample(n * 100.0, State.COMPLETED, n % 2 == 0, 10.0 + n, 5.0) for n in range(12)])
KNOWN = tuple(
    (age_s, workers, stuck)
    for age_s in (0.0, 20.0, 500.0)
    for workers, stuck in (({"ready": 1}, False), ({"initializing": 1}, False), ({}, True))
)

#: What a job sees from some moment on and for ever. It ends all the same.
FOR_EVER: tuple[tuple[Observation, Observation], ...] = (
    (Trouble(ServerError("down")), Uncollected("down")),
    (NoAnswer(), Uncollected("down")),
    (Missing(), Missing()),
    (Seen(RemoteJob("r-1", RemoteStatus.IN_QUEUE)), Seen(RemoteJob("r-1", RemoteStatus.IN_QUEUE))),
    (Seen(TRUNCATED), Seen(RemoteJob("r-1", RemoteStatus.IN_PROGRESS))),
    (Seen(TRUNCATED), Missing()),
)


#: What may happen next, and how often: most of the time a message comes and does its work.
ACTIONS = (
    *["message"] * 14,
    *["answer_in_hand"] * 3,
    *["claim"] * 2,
    "claim_when_due",
    "forget",
    "wait",
    "accept_late",
    "cancel",
)


class Driver:
    """Drives one job as the engine does, and checks the invariants after everything that happens."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.now = SUBMITTED
        self.store = FencedStore(self.data.draw(SPECS), self.now)
        self.hands: list[Claim] = []
        self.answers_late: list[tuple[int, str]] = []
        self.posts: dict[int, int] = {}
        self.inputs: dict[int, int | None] = {}
        self.total = self.store.record.spec.fallbacks
        self.percents: dict[int, float] = {}
        self.attempts_when_cancelled: int | None = None
        self.ended: JobRecord | None = None
        self.asked: list[bool] = []
        retried = self._draw([(Exception,), (Exception,), (JobFailed,), (RateLimited, OutputInvalid), ()])
        chance = self._draw([0.5, 0.0, 1.0])

        def may_retry(error: Exception) -> bool:
            self.asked.append(isinstance(error, retried))
            return self.asked[-1]

        self.around = Surroundings(
            in_flight=self._draw([1, 500, 20_000]),
            may_retry=may_retry,
            draw=lambda low, high: low + (high - low) * chance,
        )

    def run(self, actions: int) -> None:
        """Let this much happen, and then only the same for ever."""
        for _ in range(actions):
            getattr(self, self._draw(ACTIONS))()
            self._check_invariants()
        self._go_on_for_ever(*self._draw(FOR_EVER))
        self._check_invariants()

    # What happens

    def message(self) -> None:
        """The usual way: claimed when due, answered, settled."""
        self.now = max(self.now, self.store.due)
        claim = self.store.claim(self.now)
        assert claim is not None
        self._work(claim)

    def claim(self) -> None:
        """A claim that stays in hand for a while; seldom that of a submit, or most jobs would end by its loss."""
        if self.store.step is Step.SUBMIT and not self._draw([False, False, False, True]):
            return
        claim = self.store.claim(self.now)
        if claim is not None:
            self.hands.append(claim)

    def claim_when_due(self) -> None:
        """When the job is due, or when the lease of a dead process is over."""
        self.now = max(self.now, self.store.due)
        self.claim()

    def answer_in_hand(self) -> None:
        """It stays in hand, so that it may be answered twice; and by now it may be over."""
        if self.hands:
            self._work(self._draw(self.hands))

    def forget(self) -> None:
        """A process dies with its claim."""
        if self.hands:
            self.hands.remove(self._draw(self.hands))

    def wait(self) -> None:
        self.now += self._draw([0.3, 5.0, 61.0])

    def accept_late(self) -> None:
        """It stays in the list: it may be told twice."""
        if self.answers_late:
            self.store.accept(*self._draw(self.answers_late), self.now)

    def cancel(self) -> None:
        self.store.cancel(self._draw(list(CancelReason)), self.now)
        if self.store.record.cancel and self.attempts_when_cancelled is None:
            self.attempts_when_cancelled = self.store.record.attempt

    def _work(self, claim: Claim) -> None:
        match claim.step:
            case Step.SUBMIT:
                self._submit(claim)
            case Step.POLL:
                self._settle(claim, self.data.draw(POLL_OBSERVATIONS))
            case Step.DELIVER:
                self._settle(claim, self.data.draw(DELIVER_OBSERVATIONS))

    def _submit(self, claim: Claim) -> None:
        """What is not posted, because it was before, or because its lease is over, counts as lost."""
        if claim.lost or claim.posted or self.now >= claim.until:
            self._settle(claim, OutcomeUnknown())
            return
        claim.posted = True
        attempt = claim.record.attempt
        self.posts[attempt] = self.posts.get(attempt, 0) + 1
        self.inputs[attempt] = self.store.input
        came_of_it = self._draw(["taken"] * 8 + ["refused"] * 3 + ["taken, told late", "unknown"])
        if came_of_it == "taken":
            self.store.accept(attempt, f"r-{attempt}", self.now)
        elif came_of_it == "refused":
            self._settle(claim, NotAccepted(self.data.draw(REFUSALS)))
        else:
            self.answers_late.append((attempt, f"r-{attempt}"))
            if came_of_it == "unknown":
                self._settle(claim, OutcomeUnknown(self.data.draw(LOSSES)))

    def _settle(self, claim: Claim, observation: Observation) -> None:
        self.asked.clear()
        decision = advance(claim.record, observation, self.now, replace(self.around, outlook=self._outlook()))
        check(claim.record, observation, decision, self.now, self.asked)
        if claim.record.state.ended:
            # Nothing is decided about an ended job any more: its end is delivered.
            return
        before = self.store.record
        if not self.store.settle(claim, decision, self.now):
            assert self.store.record == before

    def _outlook(self) -> Outlook:
        """Each process knows something else, and some know nothing: no phase and no verdict changes what must hold."""
        known = self._draw([None, *KNOWN])
        if known is None:
            return NOTHING_KNOWN
        age_s, workers, stuck = known
        health = Health(self.now - age_s, {"inQueue": 2}, workers)
        cause = Cause.NO_WORKER if stuck else None
        return Outlook(Watch(health.at, health, cause=cause, stuck=stuck), HISTORY)

    def _go_on_for_ever(self, in_poll: Observation, in_deliver: Observation) -> None:
        self.hands.clear()
        for _ in range(3_000):
            record = self.store.record
            if record.state.ended:
                return
            self.now = max(self.now, self.store.due)
            claim = self.store.claim(self.now)
            assert claim is not None
            if claim.step is Step.SUBMIT:
                self._settle(claim, OutcomeUnknown() if claim.lost else NotAccepted(ServerError("no")))
            else:
                self._settle(claim, in_poll if claim.step is Step.POLL else in_deliver)
            if record.state in POLLED and self.now > record.submitted + record.spec.ttl_s + REMOTE_RETENTION_S:
                # A poll whose answer is over, or too long to read, leaves the end to the deliver step.
                assert self.store.record.state.ended or self.store.record.state is State.COLLECTING
        raise AssertionError(f"does not end: {self.store.record}")

    def _draw(self, values: Sequence[Any]) -> Any:
        return self.data.draw(one_of(values))

    # What must hold

    def _check_input(self, record: JobRecord) -> None:
        """The spec tells of the input that the job has; inputs only ever go on in their order, and do not come back."""
        if self.store.input is None:
            assert record.fallbacks == ()
            assert record.spec.fallbacks == self.total
        else:
            own = self.total[self.store.input]
            spec = record.spec
            told = (spec.label, spec.seed, spec.expected_images, spec.expected_run_s, spec.only)
            assert told == (own.label, own.seed, own.expected_images, own.expected_run_s, own.only)
            assert spec.fallbacks == self.total[own.place + 1 :]
            assert record.fallbacks[-1].to == own.to
            assert len({line.to for line in record.fallbacks}) == len(record.fallbacks)
        order = [-1 if place is None else place for _attempt, place in sorted(self.inputs.items())]
        assert order == sorted(order)

    def _check_invariants(self) -> None:
        record = self.store.record
        assert all(count == 1 for count in self.posts.values()), "one attempt submits at most once"
        assert record.retries <= record.spec.max_retries
        self._check_input(record)
        if self.ended is not None:
            assert record == self.ended, "an end is final"
        elif record.state.ended:
            self.ended = record
        if self.attempts_when_cancelled is not None:
            assert record.attempt == self.attempts_when_cancelled, "nothing is tried again once it is to stop"
        told = progress_of(record, self.now)
        json.dumps(told.to_json(), allow_nan=False)
        assert (told.percent == 100.0) == (record.state is State.COMPLETED)
        assert 0.0 <= told.percent <= 100.0
        assert told.message
        assert told.eta_s is None or told.eta_s >= 0.0
        if not record.state.ended:
            assert told.percent >= self.percents.get(told.attempt, 0.0), "percent goes back within an attempt"
            self.percents[told.attempt] = told.percent


def check(before: JobRecord, seen: Observation, decision: Decision, now: float, allowed: list[bool]) -> None:
    """What must hold of every single decision."""
    after = decision.record
    fixed = ("job_id", "attempt", "target", "correlation_id", "cancel", "created")
    assert all(getattr(after, name) == getattr(before, name) for name in fixed)
    if decision.fallback_input is None:
        assert (after.spec, after.fallbacks) == (before.spec, before.fallbacks)
    if before.state.ended:
        assert after is before
        assert decision == Decision(before, Step.DELIVER)
        return
    json.loads(after.observed.to_json(), parse_constant=_no_json)
    assert after.state is State.QUEUED or after.observed.banked_ms >= before.observed.banked_ms
    check_money(before, decision)
    if decision.fallback_input is not None:
        _check_fallback(before, seen, decision, allowed)
    elif after.state is State.QUEUED:
        _check_retry(before, seen, decision, allowed)
    else:
        assert after.retries == before.retries
        assert after.observed.percent >= before.observed.percent
        if after.state.ended:
            _check_end(before, seen, decision, now)
        else:
            _check_under_way(before, seen, decision)


def check_money(before: JobRecord, decision: Decision) -> None:
    """What has been paid for stays so; what ends leaves nothing reserved; and what is reserved only grows."""
    after = decision.record
    assert after.money.price_per_s == before.money.price_per_s
    assert after.money.paid >= before.money.paid
    if after.state.ended or after.state is State.QUEUED:
        assert after.money.reserved == 0
        assert not decision.over
    else:
        assert after.money.reserved >= before.money.reserved
        assert after.money.paid == before.money.paid


def _no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def _check_retry(before: JobRecord, seen: Observation, decision: Decision, allowed: list[bool]) -> None:
    after, spec = decision.record, before.spec
    assert allowed == [True]
    assert before.cancel is None
    assert after.retries == before.retries + 1 <= spec.max_retries
    assert (decision.step, decision.event) == (Step.SUBMIT, "retry")
    assert (after.remote_id, after.submitted, after.ending) == ("", 0.0, None)
    asked = (seen.error.retry_after or 0.0) if isinstance(seen, NotAccepted) else 0.0
    assert asked <= decision.in_s <= max(spec.backoff_max_s, asked + spec.backoff_s)
    assert isinstance(seen, (NotAccepted, OutputBad)) or (
        isinstance(seen, Seen) and seen.job.status in (RemoteStatus.FAILED, RemoteStatus.TIMED_OUT)
    )


def _check_fallback(before: JobRecord, seen: Observation, decision: Decision, allowed: list[bool]) -> None:
    after, line = decision.record, decision.record.fallbacks[-1]
    assert before.cancel is None
    assert (after.state, after.retries, after.fallbacks[:-1]) == (State.QUEUED, 0, before.fallbacks)
    assert (decision.step, decision.event, decision.in_s) == (Step.SUBMIT, "fallback", 0.0)
    assert (after.remote_id, after.submitted, after.ending) == ("", 0.0, None)
    (taken,) = (one for one in before.spec.fallbacks if one.place == decision.fallback_input)
    assert line.why in taken.on
    assert (line.kind, line.source, line.to, line.attempt) == (taken.kind, taken.source, taken.to, before.attempt)
    assert not isinstance(seen, (OutcomeUnknown, Missing, Trouble, NoAnswer, Uncollected, Collected))
    if line.why not in ("worker_error", "missing_node", "training_memory", "poison_input", "submit_rejected"):
        # What may pass is tried again first, where that is allowed.
        may_pass = line.why not in ("output_invalid", "output_missing")
        assert not (may_pass and allowed == [True])


def _check_end(before: JobRecord, seen: Observation, decision: Decision, now: float) -> None:
    after = decision.record
    assert (decision.step, decision.in_s, decision.event, after.ended) == (Step.DELIVER, 0.0, "state", now)
    json.dumps(after.ending, allow_nan=False)
    ending = after.ending or {}
    if after.state is State.COMPLETED:
        assert isinstance(seen, Collected)
        assert ending == {"result": seen.result}
        return
    assert not isinstance(seen, Collected)
    error = raised(before.job_id, ending)
    assert (type(error).__name__, str(error)) == (ending["error"]["type"], ending["error"]["message"])
    assert error.info == {**ending["error"]["info"], "job_id": before.job_id}
    if before.cancel:
        assert after.state is before.cancel.end
    elif isinstance(seen, OutputBad):
        assert type(error) is type(seen.error)


def _check_under_way(before: JobRecord, seen: Observation, decision: Decision) -> None:
    after, spec = decision.record, before.spec
    assert not isinstance(seen, (OutcomeUnknown, NotAccepted, Collected, OutputBad))
    assert (after.remote_id, after.submitted, after.ending) == (before.remote_id, before.submitted, None)
    if decision.step is Step.DELIVER:
        assert after.state is (State.COLLECTING if isinstance(seen, Seen) else before.state)
        assert 0.0 <= decision.in_s <= 300.0
        return
    assert decision.step is Step.POLL
    assert not isinstance(seen, Seen) or not (seen.job.status.ended or seen.job.truncated)
    longest = min(spec.poll_max_s, LONGEST_GAP_S)
    asked = (seen.error.retry_after or 0.0) if isinstance(seen, Trouble) else 0.0
    if asked > longest:
        assert decision.in_s == min(asked, REMOTE_RETENTION_S / 2)
    else:
        assert max(spec.poll_min_s, asked) <= decision.in_s <= longest


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_whatever_happens_the_invariants_hold_and_the_job_ends(data: st.DataObject) -> None:
    Driver(data).run(actions=30)
