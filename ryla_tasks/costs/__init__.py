"""What the fleet has cost: reports from the ledger in Redis, as documents and as one page, beside RunPod's bills."""

from __future__ import annotations

from ryla_tasks.costs.period import Period
from ryla_tasks.costs.report import Report, TargetReport, report_of

__all__ = ["Period", "Report", "TargetReport", "report_of"]
