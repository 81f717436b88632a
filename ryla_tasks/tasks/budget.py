"""The money guard as workers carry it out: what jobs cost at a target, who is stopped, what the operator is told."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from celery import Celery

from ryla_tasks.errors import StoreError
from ryla_tasks.jobs.budget import Ceiling, stopped
from ryla_tasks.jobs.cost import so_far
from ryla_tasks.jobs.lifecycle import Decision
from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.record import CancelReason
from ryla_tasks.jobs.stats import EndpointStats
from ryla_tasks.logs import Log
from ryla_tasks.settings import Settings, Target
from ryla_tasks.store.answers import NO_NEWS, BudgetNews, Spend
from ryla_tasks.store.budgets import Budgets, Terms
from ryla_tasks.store.targets import TargetStore
from ryla_tasks.tasks.messages import send_cancel, send_deliveries

if TYPE_CHECKING:
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["BudgetAlerts", "budgets_of", "date_of", "heed", "stop_what_is_over", "terms_of"]

log = Log(__name__)

#: An alert is of one day; after so many seconds none can be told of it again.
_QUIET_S = 3 * 86_400.0


def budgets_of(settings: Settings) -> Budgets:
    """The daily budgets in the settings, and where their day begins."""

    def offset_s() -> int:
        offset = datetime.datetime.now(settings.tzinfo).utcoffset()
        return round(offset.total_seconds()) if offset else 0

    daily = {
        endpoint.name: endpoint.daily_budget_usd
        for endpoint in settings.endpoints.values()
        if endpoint.daily_budget_usd is not None
    }
    return Budgets(daily, settings.user_daily_budget_usd, offset_s)


def terms_of(target: Target, stats: EndpointStats) -> Terms | None:
    """What jobs cost at a target; None where it has no price."""
    price = target.price_per_s
    if not price:
        return None
    run_s = stats.run.p50 if stats.run.enough else None
    return Terms(price, price if target.bill_cold_start else 0.0, run_s)


def date_of(day: int) -> str:
    """The date of a day's number."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


def heed(app: Celery, runtime: Runtime, news: BudgetNews) -> None:
    """See to what a claim has found out about budgets: the ends of jobs that it did not let go, and alerts."""
    if news is NO_NEWS:
        return
    for one in news.over:
        log.info("budget.refused", one.job_id, code=one.ceiling)
    send_deliveries(app, news.deliveries)
    runtime.budget_alerts.tell(news)


def stop_what_is_over(
    app: Celery, runtime: Runtime, decisions: Iterable[tuple[Decision, bool]], news: BudgetNews, now: float
) -> None:
    """Stop running jobs that a settle has found to be over a ceiling: each decision with whether it counted."""
    for decision, counted in decisions:
        if decision.over and counted:
            record = decision.record
            details = {"ceiling_usd": record.spec.max_cost_usd, "cost_usd": so_far(record, now)}
            _stop(app, runtime, record.job_id, Ceiling.JOB, details)
    for one in news.over:
        _stop(app, runtime, one.job_id, one.ceiling, {"spent_usd": dollars(one.spent)})
    runtime.budget_alerts.tell(news)


def _stop(app: Celery, runtime: Runtime, job_id: str, ceiling: Ceiling, details: dict[str, Any]) -> None:
    """Ask a job to stop as anybody else does. Where that goes wrong the next poll finds it over its ceiling again."""
    try:
        word, deliveries = runtime.store.cancel(job_id, CancelReason.BUDGET, stopped(ceiling, details))
    except StoreError as error:
        log.warning("budget.not_stopped", job_id, error=error)
        return
    send_deliveries(app, deliveries)
    if word == "remote":
        log.warning("budget.stopped", job_id, code=ceiling, **details)
        send_cancel(app, job_id=job_id)


class BudgetAlerts:
    """Tells the operator which shares of an endpoint's daily budget are spent, each once a day for the whole fleet.

    What this process has told, or found told, it does not ask Redis again. Safe for use by many threads.
    """

    def __init__(self, budgets: Budgets, thresholds: Iterable[float], targets: TargetStore) -> None:
        self._budgets = budgets.endpoints
        self._thresholds = tuple(thresholds)
        self._targets = targets
        self._lock = threading.Lock()
        self._told: set[tuple[str, int, float]] = set()

    def tell(self, news: BudgetNews) -> None:
        """Alert where a threshold has been reached. Does not raise for want of Redis: the next claim tells then."""
        full = any(one.ceiling is Ceiling.ENDPOINT for one in news.over)
        for spend in news.spends:
            budget = self._budgets.get(spend.endpoint)
            if budget is None:
                continue
            share = max(dollars(spend.amount) / budget, 1.0 if full else 0.0)
            for threshold in self._thresholds:
                if share >= threshold and self._is_new(spend, threshold):
                    self._alert(spend, threshold, budget)

    def _is_new(self, spend: Spend, threshold: float) -> bool:
        with self._lock:
            # Of days before, nothing need be known.
            self._told = {one for one in self._told if one[1] >= spend.day - 1}
            return (spend.endpoint, spend.day, threshold) not in self._told

    def _alert(self, spend: Spend, threshold: float, budget: float) -> None:
        spent = dollars(spend.amount)
        alert = {
            "type": "budget",
            "endpoint": spend.endpoint,
            "day": date_of(spend.day),
            "threshold": threshold,
            "spent_usd": spent,
            "budget_usd": budget,
        }
        what = f"budget:{spend.endpoint}:{spend.day}:{threshold}"
        try:
            new = self._targets.alert(what, alert, quiet_s=_QUIET_S)
        except StoreError as error:
            log.warning("budget.not_told", endpoint=spend.endpoint, error=error)
            return
        with self._lock:
            self._told.add((spend.endpoint, spend.day, threshold))
        if new:
            log.warning(
                "budget.threshold", endpoint=spend.endpoint, day=alert["day"], threshold=threshold, spent_usd=spent,
                budget_usd=budget,
            )  # fmt: skip
