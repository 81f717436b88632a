"""Alerts: what an operator should know, said once, and sent to Slack, mail or a webhook."""

from __future__ import annotations

from ryla_tasks.alerts.alert import Alert
from ryla_tasks.alerts.kinds import KINDS, Severity

__all__ = ["KINDS", "Alert", "Severity"]
