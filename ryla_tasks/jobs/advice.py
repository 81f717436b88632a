"""What a worker that is always on would cost a target, against the cold starts that it would have saved. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ryla_tasks.jobs.stats import EndpointStats

__all__ = ["Advice", "advise"]

DAY_S = 86_400.0
MONTH_DAYS = 30.0

#: With less history than this a day is not what the past says, but a guess.
_ENOUGH_JOBS = 20
_ENOUGH_S = DAY_S


@dataclass(frozen=True, slots=True)
class Advice:
    """The two sides of `workers.min = 1`, from the history of one target. Money is US dollars, None without a price.

    `cost_a_day` is the whole day of the worker, `extra_a_day` that without the seconds of runs and starts that were
    paid for anyway (None where the history is too short to tell). `cold_starts`, `cold_jobs` and `cold_wait_s` are what
    it would have saved in `history_s` at the most: a second worker, when there is work for two, starts as cold as
    before.
    """

    jobs: int
    history_s: float
    cold_starts: int
    cold_jobs: int
    cold_wait_s: float
    cost_a_day: float | None
    extra_a_day: float | None
    enough: bool

    @property
    def cost_a_month(self) -> float | None:
        """The same for 30 days."""
        return None if self.cost_a_day is None else self.cost_a_day * MONTH_DAYS

    @property
    def saved_s_a_day(self) -> float | None:
        """Seconds of waiting that would have been saved a day, where the history is long enough to say."""
        return self.cold_wait_s / self.history_s * DAY_S if self.enough else None

    @property
    def usd_per_saved_hour(self) -> float | None:
        """What an hour less of waiting would cost."""
        saved = self.saved_s_a_day
        return None if not saved or self.extra_a_day is None else self.extra_a_day / saved * 3600

    @property
    def sentence(self) -> str:
        """The advice, and how far to trust it."""
        if not self.jobs:
            return "No history yet: nothing can be said."
        if not self.enough:
            return (
                f"Too little history ({self.jobs} jobs, {_span(self.history_s)}) for what a day is like: at least "
                f"{_ENOUGH_JOBS} jobs and a day of them are needed."
            )
        if not self.cold_starts:
            return f"No cold start in {_span(self.history_s)}: a warm worker would have saved nothing."
        saved = f"would have saved at most {self.cold_starts} cold starts, {_span(self.cold_wait_s)} of waiting"
        if self.extra_a_day is None:
            return f"In {_span(self.history_s)} a warm worker {saved}. Its cost is not known: set gpu or price_per_s."
        hour = f", ${self.usd_per_saved_hour:,.2f} for each hour" if self.usd_per_saved_hour is not None else ""
        return f"In {_span(self.history_s)} a warm worker {saved}, for ${self.extra_a_day:,.2f} more a day{hour}."

    def to_json(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "history_s": round(self.history_s),
            "enough_history": self.enough,
            "cold_starts": self.cold_starts,
            "cold_jobs": self.cold_jobs,
            "cold_wait_s": round(self.cold_wait_s, 1),
            "saved_s_a_day": _rounded(self.saved_s_a_day),
            "cost_a_day_usd": _rounded(self.cost_a_day),
            "cost_a_month_usd": _rounded(self.cost_a_month),
            "extra_a_day_usd": _rounded(self.extra_a_day),
            "usd_per_saved_hour": _rounded(self.usd_per_saved_hour),
            "advice": self.sentence,
        }


def advise(stats: EndpointStats, price_per_s: float | None, now: float, *, started_s: float = 0.0) -> Advice:
    """Weigh a warm worker. The history reaches from its first job to `now`: quiet hours are part of it. `started_s` are
    the seconds of workers' starts that were paid for, where that is known: they would be saved."""
    history_s = max(0.0, now - stats.since) if stats.jobs else 0.0
    enough = stats.jobs >= _ENOUGH_JOBS and history_s >= _ENOUGH_S
    cost = price_per_s * DAY_S if price_per_s else None
    extra = None
    if cost is not None and price_per_s and enough:
        # Workers that are always on cost the same a second; RunPod bills a run in either case.
        extra = max(0.0, cost - (stats.run.total + started_s) / history_s * DAY_S * price_per_s)
    return Advice(
        jobs=stats.jobs,
        history_s=history_s,
        cold_starts=stats.cold.count,
        cold_jobs=stats.cold_jobs,
        cold_wait_s=stats.cold_wait_s,
        cost_a_day=cost,
        extra_a_day=extra,
        enough=enough,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _span(seconds: float) -> str:
    """A length of time in the unit that fits it."""
    for unit, length in (("days", DAY_S), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
