"""The shape of the verdict table."""

from __future__ import annotations

from dataclasses import dataclass

from ryla_tasks.errors import Category
from ryla_tasks.jobs.verdicts.matchers import Matcher
from ryla_tasks.jobs.verdicts.verdict import Next

__all__ = ["Row", "Seam"]


@dataclass(frozen=True, slots=True)
class Row:
    """One known failure: what it looks like, what it means, and who says so."""

    code: str
    when: Matcher
    category: Category
    next: Next
    sentence: str
    source: str
    crash: bool = False


@dataclass(frozen=True, slots=True)
class Seam:
    """The rows for one place where failures show."""

    title: str
    rows: tuple[Row, ...]
