"""A report: what was used in a period, summed in all the ways that it is shown in, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ryla_tasks.costs.period import Period
from ryla_tasks.costs.reconcile import Reconciliation
from ryla_tasks.jobs.advice import Advice, advise
from ryla_tasks.jobs.breakeven import BreakEven, break_even
from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.stats import EndpointStats, Spread
from ryla_tasks.jobs.usage import NOTHING_USED, OTHERS, By, Row, Usage, grouped, total
from ryla_tasks.settings import Settings
from ryla_tasks.store.usage import UsageStore

__all__ = ["Report", "TargetReport", "report_of"]

_DAY_S = 86_400.0
_DAY_H = 24


@dataclass(frozen=True, slots=True)
class TargetReport:
    """One target. `advice` weighs a warm worker there, `break_even` a pod (None where no price of one is known)."""

    target: str
    endpoints: tuple[str, ...]
    gpu: str
    price_per_s: float | None
    usage: Usage
    advice: Advice
    break_even: BreakEven | None


@dataclass(frozen=True, slots=True)
class Report:
    """What was used in a period. `groups` are what was asked for, the rest is for the page. `by_hour` is by the hour of
    the day, from 0 to 23."""

    period: Period
    by: By
    groups: dict[str, Usage]
    total: Usage
    by_day: dict[str, Usage]
    by_hour: tuple[Usage, ...]
    by_endpoint: dict[str, Usage]
    targets: tuple[TargetReport, ...]
    reconciliation: Reconciliation | None = None
    notes: tuple[str, ...] = field(default=())

    def with_bills(self, reconciliation: Reconciliation) -> Report:
        """The report with RunPod's bills beside it."""
        return replace(self, reconciliation=reconciliation)


def report_of(
    settings: Settings, store: UsageStore, by: By, period: Period, *, pod_price_per_h: float | None = None
) -> Report:
    """Read the ledger and sum it up. `pod_price_per_h` goes before those of the targets. Raises `StoreUnavailable`."""
    rows = store.rows(period.first_hour, period.end_hour)
    asked = store.rows_of_users(period.first_hour, period.end_hour) if by is By.USER else rows
    groups, summed = grouped(asked, by, period.zone), total(rows)
    days = grouped(rows, By.DAY, period.zone)
    return Report(
        period=period,
        by=by,
        groups=groups,
        total=summed,
        by_day={day: days.get(day, NOTHING_USED) for day in {**dict.fromkeys(period.days()), **days}},
        by_hour=tuple(total(row for row in rows if row.begins(period.zone).hour == hour) for hour in range(_DAY_H)),
        by_endpoint=grouped(rows, By.ENDPOINT, period.zone),
        targets=_targets(settings, rows, period, pod_price_per_h),
        notes=tuple(_notes(period, groups, summed)),
    )


def _targets(
    settings: Settings, rows: Sequence[Row], period: Period, pod_price_per_h: float | None
) -> tuple[TargetReport, ...]:
    found = []
    for name, usage in grouped(rows, By.TARGET, period.zone).items():
        if not name or not usage.attempts:
            continue
        own = [row for row in rows if row.target == name]
        target = settings.target(name)
        since = min(row.hour for row in own) * 3600.0
        ended = period.ended.timestamp()
        advice = advise(_history(usage, since, ended), target.price_per_s, ended, started_s=usage.start_ms / 1000)
        pod = pod_price_per_h or target.pod_price_per_h
        days = max(ended - since, 3600.0) / _DAY_S
        found.append(
            TargetReport(
                target=name,
                endpoints=tuple(sorted({row.endpoint for row in own})),
                gpu=target.gpu,
                price_per_s=target.price_per_s,
                usage=usage,
                advice=advice,
                break_even=break_even(usage, days, pod) if pod and target.price_per_s else None,
            )
        )
    return tuple(found)


def _history(usage: Usage, since: float, until: float) -> EndpointStats:
    """What was used, as the history that `advise` goes by. Without a price nobody counts starts once: then each attempt
    that waited for one stands for a start."""
    return EndpointStats(
        jobs=usage.attempts,
        cold_jobs=usage.cold,
        cold_wait_s=usage.cold_ms / 1000,
        since=since,
        until=until,
        cold=Spread(count=usage.starts or usage.cold),
        run=Spread(count=usage.attempts, total=usage.run_ms / 1000),
    )


def _notes(period: Period, groups: dict[str, Usage], summed: Usage) -> list[str]:
    """What must be known of the figures."""
    notes = []
    if period.splits_hours:
        notes.append("Hours are those of UTC: in this time zone a day begins and ends half an hour late, or a quarter.")
    if summed.unpriced:
        notes.append(
            f"{summed.unpriced} of {summed.attempts} attempts ({summed.unpriced_ms / 1000:,.0f} s of runs) were at "
            f"targets without a price, and are in no cost: set gpu or price_per_s."
        )
    if summed.assumed:
        notes.append(
            f"${dollars(summed.assumed):,.4f} of the cost is assumed: of attempts of which nobody knows what they have "
            f"cost, it is what was reserved for them."
        )
    if OTHERS in groups:
        notes.append(f"{OTHERS!r} are the users beyond some ten thousand a day.")
    return notes
