"""A report as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from ryla_tasks.costs.reconcile import Reconciled, Reconciliation
from ryla_tasks.costs.report import Report, TargetReport
from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.usage import By, Usage

__all__ = ["as_csv", "as_json"]

#: A spreadsheet takes a text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def as_json(report: Report) -> dict[str, Any]:
    """The whole report. Money is US dollars, null where nothing that was used has a price; times are seconds."""
    period = report.period
    return {
        "since": period.since.isoformat(),
        "until": period.until.isoformat(),
        "timezone": str(period.zone),
        "by": str(report.by),
        "groups": [{str(report.by): name, **_figures(used, report.by)} for name, used in report.groups.items()],
        "total": _figures(report.total, By.DAY),
        "targets": [_target(target) for target in report.targets],
        "reconciliation": _reconciliation(report.reconciliation) if report.reconciliation else None,
        "notes": list(report.notes),
    }


def as_csv(report: Report) -> str:
    """The groups, a line each. What is not known is left empty; a name that a spreadsheet would take for a formula has
    an apostrophe before it."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    for number, (name, used) in enumerate(report.groups.items()):
        figures = _figures(used, report.by)
        if not number:
            writer.writerow([str(report.by), *figures])
        writer.writerow([_plain(name), *("" if value is None else value for value in map(_decimal, figures.values()))])
    return lines.getvalue()


def _plain(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA) else name


def _decimal(value: float | None) -> str | int | None:
    """Money to the millionth, never as 1e-05."""
    return f"{value:.6f}" if isinstance(value, float) else value


def _figures(used: Usage, by: By) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "jobs": used.jobs,
        "completed": used.completed,
        "failed": used.failed,
        "cancelled": used.cancelled,
        "timed_out": used.timed_out,
        "expired": used.expired,
        "attempts": used.attempts,
        "images": used.images,
        "run_s": used.run_ms / 1000,
        "cost_usd": used.usd,
        "assumed_usd": dollars(used.assumed),
        "usd_per_image": used.usd_per_image,
        "unpriced_attempts": used.unpriced,
    }
    if by is By.USER:
        return figures
    return figures | {
        "unpriced_s": used.unpriced_ms / 1000,
        "waited_s": used.waited_ms / 1000,
        "cold_attempts": used.cold,
        "cold_share": used.cold_share,
        "cold_wait_s": used.cold_ms / 1000,
        "starts": used.starts,
        "start_s": used.start_ms / 1000,
        "start_usd": dollars(used.start_cost),
    }


def _target(target: TargetReport) -> dict[str, Any]:
    even = target.break_even
    return {
        "target": target.target,
        "endpoints": list(target.endpoints),
        "gpu": target.gpu,
        "price_per_s": target.price_per_s,
        "cost_usd": target.usage.usd,
        "warm_worker": target.advice.to_json(),
        "break_even": even
        and {
            "pod_usd_a_day": even.pod_a_day,
            "serverless_usd_a_day": even.serverless_a_day,
            "run_h_a_day": even.run_h,
            "even_h_a_day": even.even_h,
            "even_images_a_day": even.even_images,
            "advice": even.sentence,
        },
    }


def _reconciliation(found: Reconciliation) -> dict[str, Any]:
    return {
        "begins": found.begins.isoformat(),
        "ends": found.ends.isoformat(),
        "idle_timeout_s": found.idle_timeout_s,
        "estimate_usd": found.estimate,
        "invoice_usd": found.invoice,
        "difference_usd": found.invoice - found.estimate,
        "targets": [_line(line) for line in found.lines],
    }


def _line(line: Reconciled) -> dict[str, Any]:
    why = line.difference
    return {
        "target": line.target,
        "estimate_usd": line.estimate,
        "invoice_usd": line.invoice.total,
        "compute_usd": line.invoice.compute,
        "difference_usd": why.total,
        "why_usd": {
            "disk": why.disk,
            "fee": why.fee,
            "idle": why.idle,
            "rounding": why.rounding,
            "cold": why.cold,
            "assumed": why.assumed,
            "unknown": why.unknown,
        },
        "idle_share": line.idle_share,
        "cold_share": line.cold_share,
    }
