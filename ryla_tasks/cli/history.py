"""What `ryla endpoints` shows of the past: cold starts, queue and run times, failures, verdicts, and advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ryla_tasks.cli.output import console

if TYPE_CHECKING:
    from ryla_tasks.jobs.breaker import Breaker
    from ryla_tasks.settings import Target
    from ryla_tasks.store.targets import Look
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["histories", "print_advice", "print_histories", "with_advice"]

#: A watch that is older than this is of another time.
_NOW_S = 180.0

_UNKNOWN: dict[str, Any] = {"history": None, "verdict": None, "watched_s_ago": None, "watch": None, "breaker": None}


def histories(targets: Sequence[Target]) -> tuple[list[dict[str, Any]], str]:
    """The history and the verdict of each target; where Redis does not answer, none, and the reason."""
    from ryla_tasks.errors import StoreError

    try:
        runtime = _runtime()
        looks = [runtime.targets.look(target.id, samples=True) for target in targets]
        breakers = [_breaker(*runtime.breakers.of(target.id)) for target in targets]
        return [{**_history(look), "breaker": breaker} for look, breaker in zip(looks, breakers, strict=True)], ""
    except StoreError as error:
        return [dict(_UNKNOWN) for _ in targets], str(error)


def with_advice(pairs: Sequence[tuple[str, Target]]) -> list[dict[str, Any]]:
    """What a warm worker would cost and save at each target. Raises `StoreError`."""
    from ryla_tasks.jobs.advice import advise
    from ryla_tasks.jobs.stats import EndpointStats

    store, rows = _runtime().targets, []
    for endpoint, target in pairs:
        look = store.look(target.id, samples=True)
        advice = advise(EndpointStats.of(look.samples or ()), target.price_per_s, look.now)
        row = {"endpoint": endpoint, "target": target.id, "gpu": target.gpu, "price_per_s": target.price_per_s}
        rows.append({**row, **advice.to_json()})
    return rows


def print_histories(rows: Sequence[dict[str, Any]], problem: str) -> None:
    from rich.table import Table

    out = console()
    out.print()
    if problem:
        out.print(f"No history: {problem}")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("Target", "Last jobs", "Cold", "Cold start", "Queue", "Run", "Failed", "Last health", "Verdict"):
        table.add_column(name, overflow="fold")
    for row in rows:
        past = row["history"]
        spreads = [_spread(past[name]) for name in ("cold_start", "queue", "run")]
        table.add_row(
            row["target"], str(past["jobs"]), _percent(past["cold_share"]), *spreads, _percent(past["failure_rate"]),
            "-" if row["watched_s_ago"] is None else f"{_span(row['watched_s_ago'])} ago", _verdict(row),
        )  # fmt: skip
    out.print(table)
    out.print("Times are p50 / p95. Health is asked for only while a job waits.")


def print_advice(rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    out = console()
    if not rows:
        out.print("There are no endpoints in the settings: set RYLA_ENDPOINT_IMAGE to the id of one.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("Target", "Cold starts", "Jobs that waited", "Waited", "Of history", "Warm a day", "Warm a month"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            row["target"], str(row["cold_starts"]), f"{row['cold_jobs']} of {row['jobs']}", _span(row["cold_wait_s"]),
            _span(row["history_s"]), _money(row["cost_a_day_usd"]), _money(row["cost_a_month_usd"]),
        )  # fmt: skip
    out.print(table)
    out.print()
    for row in rows:
        out.print(f"{row['target']}: {row['advice']}")


def _runtime() -> Runtime:
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.tasks.runtime import runtime_of

    return runtime_of(current_app())


def _breaker(breaker: Breaker, now: float) -> dict[str, Any] | None:
    """How long submits have been held back, and when the next job is let through; None where they are not."""
    if not breaker.is_open:
        return None
    return {
        "open_s": round(now - breaker.opened, 1),
        "why": str(breaker.why),
        "probe_in_s": round(max(0.0, breaker.until - now), 1),
    }


def _history(look: Look) -> dict[str, Any]:
    from ryla_tasks.jobs.stats import EndpointStats

    watch = look.watch
    return {
        "history": EndpointStats.of(look.samples or ()).to_json(),
        "verdict": watch.verdict if watch else None,
        "watched_s_ago": round(look.now - watch.at, 1) if watch else None,
        "watch": watch.health.to_json() if watch and watch.health else None,
    }


def _verdict(row: dict[str, Any]) -> str:
    """Of an endpoint where nobody waits any more, it is an old one. That submits are held back is always of now."""
    if row["breaker"] is not None:
        return f"held back for {_span(row['breaker']['open_s'])}, next try in {_span(row['breaker']['probe_in_s'])}"
    if row["verdict"] is None:
        return "-"
    return f"{row['verdict']}{' (then)' if row['watched_s_ago'] > _NOW_S else ''}"


def _spread(spread: dict[str, Any] | None) -> str:
    return "-" if spread is None else f"{_span(spread['p50_s'])} / {_span(spread['p95_s'])}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _money(usd: float | None) -> str:
    return "-" if usd is None else f"${usd:,.2f}"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
