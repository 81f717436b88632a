"""One job under the rules of the job store: leases with fences, attempts, late accepts, cancels; all in memory.

It holds a record as the real store does, as a spec and an `Observed` in JSON, so that what a claim hands out has been
written and read. `input` is the place of the fallback's input that the job has, None while it has its own. A settle
counts only under the fence of the latest claim; of a decision only that is kept which the store writes. Where somebody
asked the job to stop after it was claimed, there is no new attempt, and no other end than the wanted one but a result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from ryla_tasks.jobs.cost import expecting
from ryla_tasks.jobs.fallback import Fallback
from ryla_tasks.jobs.lifecycle import Decision, Step, cancelled_ending
from ryla_tasks.jobs.record import CancelReason, JobRecord, JobSpec, Observed
from ryla_tasks.jobs.states import POLLED, State

LEASE_S = {Step.SUBMIT: 45.0, Step.POLL: 8.0, Step.DELIVER: 180.0}


@dataclass
class Claim:
    """A lease on the job for one step; `lost` says that an earlier claim of the same attempt died on its way."""

    record: JobRecord
    step: Step
    fence: int
    until: float
    lost: bool = False
    posted: bool = False


class FencedStore:
    def __init__(self, spec: JobSpec, now: float) -> None:
        self._spec = spec.to_json()
        self._record = JobRecord("job-1", spec, created=now)
        self.step = Step.SUBMIT
        self.due = now
        self._fence = 0
        self._held: int | None = None
        self.input: int | None = None

    @property
    def record(self) -> JobRecord:
        """The record as it would be read."""
        record = self._record
        return record.with_(
            spec=JobSpec.from_json(self._spec),
            observed=Observed.from_json(record.observed.to_json().encode()),
            ending=None if record.ending is None else json.loads(json.dumps(record.ending, allow_nan=False)),
        )

    def claim(self, now: float) -> Claim | None:
        if now < self.due:
            return None
        lost = self._record.state is State.SUBMITTING
        if self.step is Step.SUBMIT and not lost:
            price = self._record.spec.price_per_s
            self._record = self._record.with_(
                state=State.SUBMITTING,
                attempt=self._record.attempt + 1,
                target="runpod:ep1",
                money=replace(expecting(self._record, price), start_per_s=price),
            )
        self._fence += 1
        self._held = self._fence
        self.due = now + LEASE_S[self.step]
        return Claim(self.record, self.step, self._fence, self.due, lost=lost)

    def settle(self, claim: Claim, decision: Decision, now: float) -> bool:
        if claim.fence != self._held:
            return False
        self._held = None
        before, after = claim.record, decision.record
        changes: dict[str, Any] = {"state": after.state}
        ending, reason = after.ending, self._record.cancel
        self._record = self._record.with_(money=after.money)
        if reason and after.state is not State.COMPLETED and (ending or after.state is State.QUEUED):
            self._end(reason.end, cancelled_ending(reason), now)
            return True
        if after.observed != before.observed:
            changes["observed"] = after.observed
        if after.retries != before.retries:
            changes |= {"retries": after.retries, "remote_id": "", "submitted": 0.0}
        if after.fallbacks != before.fallbacks:
            kept = json.loads(json.dumps([line.kept() for line in after.fallbacks], allow_nan=False))
            changes |= {"fallbacks": tuple(map(Fallback.of, kept)), "remote_id": "", "submitted": 0.0}
            self._spec, self.input = after.spec.to_json(), decision.fallback_input
        self._record = self._record.with_(**changes)
        if ending is not None:
            self._end(after.state, ending, now)
        else:
            self.step, self.due = decision.step, now + decision.in_s
        return True

    def accept(self, attempt: int, remote_id: str, now: float) -> None:
        """Fenced by the attempt alone; an attempt that the job has moved on from is an orphan, and cancelled."""
        record = self._record
        if record.state not in (State.SUBMITTING, State.UNKNOWN) or record.attempt != attempt:
            return
        self._record = record.with_(state=State.WAITING, remote_id=remote_id, submitted=now)
        self._held = None
        self.step, self.due = Step.POLL, now + record.spec.poll_min_s

    def cancel(self, reason: CancelReason, now: float) -> None:
        record = self._record
        if record.state is State.QUEUED:
            self._record = record.with_(cancel=reason)
            self._end(reason.end, cancelled_ending(reason), now)
        elif record.state is State.SUBMITTING or record.state in POLLED:
            self._record = record.with_(cancel=record.cancel or reason)

    def _end(self, state: State, ending: dict[str, Any], now: float) -> None:
        self._record = self._record.with_(state=state, ending=ending, ended=now)
        self._held = None
        self.step, self.due = Step.DELIVER, now
