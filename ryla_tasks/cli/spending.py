"""What `ryla endpoints` shows of today's spending."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ryla_tasks.cli.output import console

__all__ = ["print_spending", "spending"]


def spending() -> dict[str, dict[str, Any]]:
    """By endpoint: what it has spent today, reservations included, and what it may. Spent is None where the endpoint
    has no price, or Redis does not answer."""
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.errors import StoreError
    from ryla_tasks.tasks.runtime import runtime_of

    runtime = runtime_of(current_app())
    endpoints = runtime.settings.endpoints
    try:
        spent: tuple[float | None, ...] = runtime.spend.today(endpoints)[1]
    except StoreError:
        spent = tuple(None for _ in endpoints)
    return {
        name: {
            "spent_today_usd": amount if any(target.price_per_s for target in endpoint.targets) else None,
            "daily_budget_usd": endpoint.daily_budget_usd,
            "max_cost_usd": endpoint.max_cost_usd,
        }
        for (name, endpoint), amount in zip(endpoints.items(), spent, strict=True)
    }


def print_spending(rows: Mapping[str, dict[str, Any]]) -> None:
    from rich.table import Table

    shown = {name: row for name, row in rows.items() if row["spent_today_usd"] is not None}
    if not shown:
        return
    table = Table(box=None, pad_edge=False)
    for name in ("Endpoint", "Spent today", "Of a budget of", "At most a job"):
        table.add_column(name, overflow="fold")
    for name, row in shown.items():
        spent, budget, most = row["spent_today_usd"], row["daily_budget_usd"], row["max_cost_usd"]
        of = "-" if budget is None else f"${budget:,.2f} ({100 * spent / budget:.0f} %)"
        table.add_row(name, f"${spent:,.4f}", of, "-" if most is None else f"${most:g}")
    out = console()
    out.print()
    out.print(table)
    out.print("Spent with what is reserved for jobs in flight; an estimate.")
