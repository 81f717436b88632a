"""A target's own history: one small sample of each attempt that ended, and what can be expected from them. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import POLLED, State

__all__ = ["NO_STATS", "SHORTEST_COLD_S", "EndpointStats", "Sample", "Spread", "failures", "sample_of"]

#: With fewer samples than this nothing is said of what is usual.
ENOUGH = 3

#: A wait shorter than this was none for a worker to start.
SHORTEST_COLD_S = 1.0

_AT_THE_CLOUD = POLLED | {State.COLLECTING}


@dataclass(frozen=True, slots=True)
class Sample:
    """How one attempt went. `sent` is when it was submitted, `cold` says that it had to wait for a worker to start.

    `delay_s` is RunPod's delayTime, from the submit to a worker's taking it, `run_s` its executionTime. None where the
    cloud gave no number.
    """

    sent: float
    outcome: State
    cold: bool = False
    delay_s: float | None = None
    run_s: float | None = None

    @property
    def began(self) -> float:
        """When a worker took it."""
        return self.sent + (self.delay_s or 0.0)

    def to_json(self) -> str:
        values = [round(self.sent, 1), self.outcome, int(self.cold), self.delay_s, self.run_s]
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote."""
        sent, outcome, cold, delay_s, run_s = json.loads(text)
        return cls(sent, State(outcome), bool(cold), delay_s, run_s)


def sample_of(before: JobRecord, after: JobRecord) -> Sample | None:
    """The sample of an attempt at the cloud that this change ends, with an output or without, or None."""
    if before.state not in _AT_THE_CLOUD or after.state in _AT_THE_CLOUD:
        return None
    # A new attempt starts with a clean sheet; what is known of the old one stands in the record before.
    again = after.state is State.QUEUED
    seen = before.observed if again else after.observed
    timings = ((after.ending or {}).get("result") or {}).get("timings") or {}
    delay_s = timings.get("waited_s", _seconds(seen.delay_ms))
    done = after.state is State.COMPLETED
    run_s = timings.get("executed_s", _seconds(seen.execution_ms)) if done else None
    cold = before.observed.cold and delay_s is not None and delay_s >= SHORTEST_COLD_S
    left = after.left != before.left  # it was withdrawn from the queue: nothing failed
    return Sample(
        before.submitted, State.CANCELLED if left else State.FAILED if again else after.state, cold, delay_s, run_s
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


@dataclass(frozen=True, slots=True)
class Spread:
    """How a length of time is spread over the samples, in seconds. `low` to `high` holds the middle 60 %."""

    count: int = 0
    total: float = 0.0
    low: float = 0.0
    p50: float = 0.0
    high: float = 0.0
    p95: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self:
        known = sorted(value for value in values if value is not None)
        if not known:
            return cls()
        low, p50, high, p95 = (_at(known, share) for share in (0.2, 0.5, 0.8, 0.95))
        return cls(len(known), sum(known), low, p50, high, p95)

    @property
    def enough(self) -> bool:
        """Whether there are samples enough to say what is usual."""
        return self.count >= ENOUGH

    def to_json(self) -> dict[str, Any] | None:
        """As plain JSON; None without a sample."""
        return {"count": self.count, "p50_s": self.p50, "p95_s": self.p95} if self.count else None


@dataclass(frozen=True, slots=True)
class EndpointStats:
    """What the last few hundred attempts at a target were like. `since` and `until` are the first and last of them.

    `cold` is the length of cold starts: jobs that waited for the same one count once there, and each in `cold_jobs`,
    with all the seconds that they waited in `cold_wait_s`. `queue` is the wait of the others. `failure_rate` is the
    share that ended otherwise than with an output, cancelled ones left out; None where there is none to count.
    """

    jobs: int = 0
    cold_jobs: int = 0
    cold_wait_s: float = 0.0
    since: float = 0.0
    until: float = 0.0
    cold: Spread = Spread()
    queue: Spread = Spread()
    run: Spread = Spread()
    failure_rate: float | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        if not samples:
            return cls()
        judged = [sample.outcome is not State.COMPLETED for sample in samples if sample.outcome is not State.CANCELLED]
        cold = [sample for sample in samples if sample.cold]
        return cls(
            jobs=len(samples),
            cold_jobs=len(cold),
            cold_wait_s=sum(sample.delay_s or 0.0 for sample in cold),
            since=min(sample.sent for sample in samples),
            until=max(sample.sent for sample in samples),
            cold=Spread.of(sample.delay_s for sample in _first_ones(cold)),
            queue=Spread.of(sample.delay_s for sample in samples if not sample.cold),
            run=Spread.of(sample.run_s for sample in samples),
            failure_rate=sum(judged) / len(judged) if judged else None,
        )

    @property
    def cold_share(self) -> float | None:
        """The share of the attempts that waited for a cold start."""
        return self.cold_jobs / self.jobs if self.jobs else None

    def to_json(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "since": self.since or None,
            "until": self.until or None,
            "cold_share": self.cold_share,
            "cold_jobs": self.cold_jobs,
            "cold_wait_s": round(self.cold_wait_s, 1),
            "cold_start": self.cold.to_json(),
            "queue": self.queue.to_json(),
            "run": self.run.to_json(),
            "failure_rate": self.failure_rate,
        }


NO_STATS = EndpointStats()


def failures(samples: Iterable[Sample], *, since: float) -> tuple[int, int]:
    """Of the attempts sent since then: how many failed, and how many that may be said of (not the cancelled ones)."""
    judged = [one.outcome for one in samples if one.sent >= since and one.outcome is not State.CANCELLED]
    return sum(outcome is not State.COMPLETED for outcome in judged), len(judged)


def _first_ones(cold: Sequence[Sample]) -> list[Sample]:
    """Of the jobs that waited for the same cold start, the one that a worker took first: its wait is the cold start,
    that of the others is queueing as well. Whoever was sent before that moment waited for the same."""
    first: list[Sample] = []
    for sample in sorted(cold, key=lambda one: one.began):
        if not first or sample.sent > first[-1].began:
            first.append(sample)
    return first


def _at(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile: a value that did occur."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
