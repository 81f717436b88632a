"""What one simulated endpoint has counted: the witness of a test."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from .jobs import JobStatus
from .operations import Operation, WorkerOperation

__all__ = ["LOST", "CounterSnapshot", "Counters"]

LOST = 0
"""Stands for the status code of a call that got no answer."""


class CounterSnapshot(BaseModel):
    """The counters of one endpoint at one moment.

    `accepted_by_correlation` counts the jobs taken for each `input.ryla.correlation_id`, and `duplicates` those
    beyond the first of each. `billable_starts` counts every time that a GPU worker began on a job, platform
    re-dispatches and /retry included; `calls` is by operation and status code, code 0 for a call without an answer;
    `faults` says how often each kind of fault has struck.
    """

    accepted: int
    accepted_by_correlation: dict[str, int]
    duplicates: int
    billable_starts: int
    starts_by_correlation: dict[str, int]
    billable_seconds: float
    cost: float
    calls: dict[str, dict[int, int]]
    cancels: int
    redispatches: int
    ended: dict[str, int]
    webhooks_sent: int
    webhooks_delivered: int
    faults: dict[str, int] = {}


@dataclass(slots=True)
class Counters:
    """Counts as things happen; `snapshot` to read."""

    accepted: int = 0
    starts: int = 0
    cancels: int = 0
    redispatches: int = 0
    webhooks_sent: int = 0
    webhooks_delivered: int = 0
    accepted_by: Counter[str] = field(default_factory=Counter)
    starts_by: Counter[str] = field(default_factory=Counter)
    ended: Counter[JobStatus] = field(default_factory=Counter)
    calls: defaultdict[Operation | WorkerOperation, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def accept(self, correlation_id: str | None) -> None:
        self.accepted += 1
        if correlation_id is not None:
            self.accepted_by[correlation_id] += 1

    def start(self, correlation_id: str | None) -> None:
        self.starts += 1
        if correlation_id is not None:
            self.starts_by[correlation_id] += 1

    def call(self, op: Operation | WorkerOperation, code: int) -> None:
        self.calls[op][code] += 1

    def snapshot(
        self, billable_seconds: float, price_per_s: float, faults: Mapping[str, int] | None = None
    ) -> CounterSnapshot:
        return CounterSnapshot(
            accepted=self.accepted,
            accepted_by_correlation=dict(self.accepted_by),
            duplicates=sum(count - 1 for count in self.accepted_by.values()),
            billable_starts=self.starts,
            starts_by_correlation=dict(self.starts_by),
            billable_seconds=billable_seconds,
            cost=billable_seconds * price_per_s,
            calls={op.value: dict(codes) for op, codes in self.calls.items()},
            cancels=self.cancels,
            redispatches=self.redispatches,
            ended={status.value: count for status, count in self.ended.items()},
            webhooks_sent=self.webhooks_sent,
            webhooks_delivered=self.webhooks_delivered,
            faults=dict(faults or {}),
        )
