"""A target's own history: one small sample of each attempt that ended, and what can be expected from them. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import POLLED, State

__all__ = ["NO_STATS", "EndpointStats", "Sample", "Spread", "sample_of"]

#: With fewer samples than this nothing is said of what is usual.
ENOUGH = 3

#: A wait shorter than this was none for a worker to start.
_SHORTEST_COLD_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How one attempt went. `delay_s` is RunPod's delayTime, from the submit to a worker's taking it; in a cold one
    that is the length of the cold start. None where the cloud gave no number."""

    at: float
    outcome: State
    cold: bool = False
    delay_s: float | None = None
    run_s: float | None = None

    def to_json(self) -> str:
        return json.dumps(
            [round(self.at), self.outcome, int(self.cold), self.delay_s, self.run_s], separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote."""
        at, outcome, cold, delay_s, run_s = json.loads(text)
        return cls(at, State(outcome), bool(cold), delay_s, run_s)


def sample_of(before: JobRecord, after: JobRecord, now: float) -> Sample | None:
    """The sample of an attempt that this change ends: the cloud is done with it, one way or another."""
    if before.state not in POLLED or after.state in POLLED:
        return None
    # A new attempt starts with a clean sheet; what is known of the old one stands in the record before.
    seen = before.observed if after.state is State.QUEUED else after.observed
    delay_s = None if seen.delay_ms is None else round(seen.delay_ms / 1000, 1)
    done = after.state is State.COLLECTING
    run_s = None if not done or seen.execution_ms is None else round(seen.execution_ms / 1000, 1)
    outcome = State.COMPLETED if done else State.FAILED if after.state is State.QUEUED else after.state
    cold = before.observed.cold and delay_s is not None and delay_s >= _SHORTEST_COLD_S
    return Sample(now, outcome, cold, delay_s, run_s)


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

    `queue` is the wait of those without a cold start. `failure_rate` is the share that ended otherwise than with an
    output, cancelled ones left out; None where there is none to count.
    """

    jobs: int = 0
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
        return cls(
            jobs=len(samples),
            since=min(sample.at for sample in samples),
            until=max(sample.at for sample in samples),
            cold=Spread.of(sample.delay_s for sample in samples if sample.cold),
            queue=Spread.of(sample.delay_s for sample in samples if not sample.cold),
            run=Spread.of(sample.run_s for sample in samples),
            failure_rate=sum(judged) / len(judged) if judged else None,
        )

    @property
    def cold_share(self) -> float | None:
        """The share of the attempts that waited for a cold start."""
        return self.cold.count / self.jobs if self.jobs else None

    def to_json(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "since": self.since or None,
            "until": self.until or None,
            "cold_share": self.cold_share,
            "cold_start": self.cold.to_json(),
            "queue": self.queue.to_json(),
            "run": self.run.to_json(),
            "failure_rate": self.failure_rate,
        }


NO_STATS = EndpointStats()


def _at(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile: a value that did occur."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
