"""How the metrics of the table are read from what a scrape has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from ryla_tasks.jobs.phases import Outlook
from ryla_tasks.jobs.states import ENDS
from ryla_tasks.jobs.stuck import Watch
from ryla_tasks.metrics.definition import Kind, Metric, Row, View
from ryla_tasks.providers.tally import REPEATED
from ryla_tasks.store.metrics import Place, TargetState

__all__ = [
    "attempts",
    "calls",
    "counter",
    "endings",
    "errors",
    "gauge",
    "histogram",
    "of_health",
    "of_lines",
    "of_targets",
    "repeats",
    "tally",
    "watch_of",
]


def counter(name: str, field: str, text: str) -> Metric:
    """A counter of the hash `counters`, without labels."""
    return Metric(
        name, Kind.COUNTER, (), text, f"counters, {field}", lambda view: [((), view.fleet.counters.get(field, 0))]
    )


def tally(name: str, of: str, labels: tuple[str, ...], text: str, *, unit: float = 1.0) -> Metric:
    """A counter by labels. Those by kind and endpoint begin with 0, so that the first one is seen to be an increase."""

    def read(view: View) -> Iterator[Row]:
        counted = view.fleet.tallies[of]
        known = view.fleet.tallies["created"] if labels == ("kind", "endpoint") else {}
        for at in {**dict.fromkeys(known, 0), **counted}:
            yield at, counted.get(at, 0) / unit

    return Metric(name, Kind.COUNTER, labels, text, f"metric:{of}", read)


def gauge(
    name: str, text: str, source: str, read: Callable[[View], Iterable[Row]], labels: tuple[str, ...] = ()
) -> Metric:
    return Metric(name, Kind.GAUGE, labels, text, source, read)


def histogram(name: str, of: str, labels: tuple[str, ...], text: str) -> Metric:
    """A histogram, with the buckets that it is counted by."""

    def read(view: View) -> Iterable[Row]:
        return view.fleet.histograms[of].items()

    return Metric(name, Kind.HISTOGRAM, labels, text, f"metric:{of}", read, of)


def endings(view: View) -> Iterator[Row]:
    """By kind, endpoint and outcome; each outcome begins with 0."""
    counts: Counter[tuple[str, ...]] = Counter()
    for (kind, endpoint, outcome, _code), n in view.fleet.tallies["ended"].items():
        counts[kind, endpoint, outcome] += n
    for at in view.fleet.tallies["created"]:
        for end in ENDS:
            counts.setdefault((*at, str(end)), 0)
    yield from counts.items()


def attempts(view: View) -> Iterator[Row]:
    """By kind, endpoint, target, outcome and whether it met a cold start; each of the two is there with the other, so
    that the share of one of them is 0, and not missing."""
    counted = view.fleet.tallies["attempts"]
    for at in dict.fromkeys((*of, cold) for *of, _cold in counted for cold in ("no", "yes")):
        yield at, counted.get(at, 0)


def errors(view: View) -> Iterator[Row]:
    """By kind, endpoint and code, of jobs without a result."""
    counts: Counter[tuple[str, ...]] = Counter()
    for (kind, endpoint, outcome, code), n in view.fleet.tallies["ended"].items():
        if outcome != "completed":
            counts[kind, endpoint, code] += n
    yield from counts.items()


def calls(view: View) -> Iterator[Row]:
    yield from ((at, n) for at, n in view.fleet.calls.items() if at[2] != REPEATED)


def repeats(view: View) -> Iterator[Row]:
    yield from ((at[:2], n) for at, n in view.fleet.calls.items() if at[2] == REPEATED)


def of_lines(what: Callable[[Place], float]) -> Callable[[View], Iterator[Row]]:
    """By endpoint."""

    def read(view: View) -> Iterator[Row]:
        yield from (((endpoint,), what(place)) for endpoint, place in view.fleet.lines.items())

    return read


def of_targets(what: Callable[[TargetState], float]) -> Callable[[View], Iterator[Row]]:
    """By target."""

    def read(view: View) -> Iterator[Row]:
        yield from (((target,), what(state)) for target, state in view.fleet.targets.items())

    return read


def watch_of(view: View, state: TargetState) -> Watch | None:
    """What is known of a target's health now: what was known at another time says nothing."""
    return Outlook(watch=state.watch).now(view.fleet.now)


def of_health(what: Callable[[Watch], Iterable[Row]]) -> Callable[[View], Iterator[Row]]:
    """By target and what `what` names behind it, of targets whose health is known now."""

    def read(view: View) -> Iterator[Row]:
        for target, state in view.fleet.targets.items():
            if watch := watch_of(view, state):
                yield from (((target, *labels), value) for labels, value in what(watch))

    return read
