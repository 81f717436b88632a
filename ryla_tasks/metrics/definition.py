"""What a metric is, and what all of them are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ryla_tasks.store.metrics import Histogram, Labels, Snapshot

__all__ = ["Kind", "Metric", "Row", "Section", "View"]


class Kind(StrEnum):
    """The types of Prometheus that are in use here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class View:
    """All that one scrape knows. `messages` are those in Celery's queues, None where the broker does not answer;
    `budgets` the daily ones of endpoints, in dollars."""

    fleet: Snapshot
    messages: Mapping[str, int] | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)


Row = tuple[Labels, float | Histogram]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, by the name that queries use. `source` says where in Redis its values come from, under the prefix.

    `read` gives a row for each combination of label values; these are names of endpoints, targets, states, operations
    and codes, never of users or jobs. The buckets of a histogram are those named `buckets`.
    """

    name: str
    kind: Kind
    labels: Labels
    help: str
    source: str
    read: Callable[[View], Iterable[Row]]
    buckets: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Metrics that belong together."""

    title: str
    metrics: tuple[Metric, ...]
