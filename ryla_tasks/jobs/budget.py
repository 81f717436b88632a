"""The ceilings that a job's cost may meet, and the errors that it ends with there. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ryla_tasks.errors import BudgetExceeded, Category

__all__ = ["Ceiling", "refused", "stopped"]


class Ceiling(StrEnum):
    """What must not cost more: the job itself, its user's day, or its endpoint's day. The word is the error's code."""

    JOB = "budget_job"
    USER = "budget_user"
    ENDPOINT = "budget_endpoint"


def refused(ceiling: Ceiling, details: dict[str, Any] | None = None) -> BudgetExceeded:
    """The error of a job that is not submitted because of a ceiling."""
    return _error(_REFUSED[ceiling], ceiling, details)


def stopped(ceiling: Ceiling, details: dict[str, Any] | None = None) -> BudgetExceeded:
    """The error of a job that was stopped because it came to cost more than a ceiling allows."""
    return _error(_STOPPED[ceiling], ceiling, details)


def _error(message: str, ceiling: Ceiling, details: dict[str, Any] | None) -> BudgetExceeded:
    return BudgetExceeded(message, {"code": str(ceiling), "category": str(Category.PERMANENT), "details": details})


_REFUSED = {
    Ceiling.JOB: "The job was not started: it would cost more than it may.",
    Ceiling.USER: "The job was not started: your budget for today is used up.",
    Ceiling.ENDPOINT: "The job was not started: today's budget for such jobs is used up.",
}
_STOPPED = {
    Ceiling.JOB: "The job was stopped: it came to cost more than it may.",
    Ceiling.USER: "The job was stopped: your budget for today is used up.",
    Ceiling.ENDPOINT: "The job was stopped: today's budget for such jobs is used up.",
}
