"""All that `ryla metrics` tells of the fleet, read from Redis in one look; `commands/metrics.lua` counts it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import redis

from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stuck import Watch
from ryla_tasks.store.buckets import BUCKETS
from ryla_tasks.store.codec import dumps
from ryla_tasks.store.scripts import Scripts

__all__ = ["Histogram", "Labels", "MetricStore", "Place", "Snapshot", "TargetState"]

Labels = tuple[str, ...]

#: The hashes that hold plain counts, by name: metric:NAME.
TALLIES = ("created", "ended", "attempts", "exhausted", "cost")

#: A worker process that has swept within this time counts as one: more than three of the longest sweep intervals.
WORKERS_S = 20.0


@dataclass(slots=True)
class Histogram:
    """How a length of time was spread: how many fell into each bucket, by its bound as text; their sum in seconds."""

    counts: dict[str, int] = field(default_factory=dict)
    sum: float = 0.0

    def cumulated(self, name: str) -> list[tuple[float, int]]:
        """How many were at or below each bound of the histogram of this name, up to infinity. What was counted under a
        bound that the buckets do not have any more counts from the next one above on."""
        return [
            (bound, sum(n for counted, n in self.counts.items() if float(counted) <= bound))
            for bound in (*BUCKETS[name], math.inf)
        ]


@dataclass(frozen=True, slots=True)
class Place:
    """How many jobs are at a place, and for how many seconds the first of them has been due there without anybody's
    taking it."""

    jobs: int
    overdue_s: float


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target as it stands. `watch` is what is known of its health, None where nobody ever waited there."""

    at: Place
    breaker_open: bool
    watch: Watch | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at one moment; `now` is the time by the clock of Redis. `spent` is today's spending in dollars, by
    endpoint; `calls` are by target, operation and how they went."""

    now: float
    kept: int
    workers: int
    counters: Mapping[str, int]
    calls: Mapping[Labels, int]
    tallies: Mapping[str, Mapping[Labels, int]]
    histograms: Mapping[str, Mapping[Labels, Histogram]]
    states: Mapping[State, int]
    targets: Mapping[str, TargetState]
    lines: Mapping[str, Place]
    deliveries: Place
    spent: Mapping[str, float]


class MetricStore:
    """Metrics in Redis. Safe for use by many threads. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._scripts = Scripts(client, prefix)

    def snapshot(self, targets: Iterable[str], endpoints: Iterable[str], *, offset_s: int = 0) -> Snapshot:
        """The fleet now, in one round trip, however many jobs there are. `targets` and `endpoints` are those in the
        settings; where jobs are under way elsewhere, that is added. `offset_s` is as in `Budgets`."""
        states = [state for state in State if not state.ended]
        names = [*TALLIES, *BUCKETS]
        wish = {"metrics": names, "states": states, "targets": list(targets), "endpoints": list(endpoints)}
        answer = self._scripts.call("scrape", dumps({**wish, "offset_s": offset_s, "workers_s": WORKERS_S}))
        now, kept, workers, counters, calls, metrics, per_state, per_target, per_endpoint, deliver = answer
        hashes = dict(zip(names, map(_hash, metrics), strict=True))
        return Snapshot(
            now=int(now) / 1e6,
            kept=kept,
            workers=workers,
            counters=_hash(counters),
            calls={tuple(name.rsplit(" ", 2)): n for name, n in _hash(calls).items()},
            tallies={name: {tuple(at.split(" ")): n for at, n in hashes[name].items()} for name in TALLIES},
            histograms={name: _histograms(hashes[name]) for name in BUCKETS},
            states=dict(zip(states, per_state, strict=True)),
            targets={
                name.decode(): TargetState(
                    _place(jobs, overdue), bool(is_open), Watch.from_json(health) if health else None
                )
                for name, jobs, overdue, is_open, health in per_target
            },
            lines={name.decode(): _place(jobs, overdue) for name, jobs, overdue, _ in per_endpoint},
            deliveries=_place(*deliver),
            spent={name.decode(): int(spent) / 1e6 for name, _, _, spent in per_endpoint},
        )


def _hash(flat: list[bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in zip(flat[0::2], flat[1::2], strict=True)}


def _place(jobs: int, overdue: bytes) -> Place:
    return Place(jobs, int(overdue) / 1e6)


def _histograms(counted: Mapping[str, int]) -> dict[Labels, Histogram]:
    """From "LABELS BOUND" and "LABELS sum"."""
    found: dict[Labels, Histogram] = {}
    for name, n in counted.items():
        *labels, bucket = name.split(" ")
        histogram = found.setdefault(tuple(labels), Histogram())
        if bucket == "sum":
            histogram.sum = n / 1e6
        else:
            histogram.counts[bucket] = n
    return found
