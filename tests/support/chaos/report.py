"""The table that `make chaos` ends with: what was tried, how often, and what came of it."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["ROWS", "SEED", "WHOLE", "Row", "note"]

#: Every scenario draws its chances from this and from its own name.
SEED = int(os.environ.get("RYLA_CHAOS_SEED", "1"))

#: Whether all of the suite runs (`make chaos`), or the short part of it (`make test`).
WHOLE = os.environ.get("RYLA_CHAOS") == "whole"


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario that ran: jobs tried, those that ended, billable doubles, and what else is worth saying."""

    scenario: str
    jobs: int
    ended: int
    doubles: int
    remark: str = ""


ROWS: list[Row] = []


def note(scenario: str, jobs: int, ended: int, doubles: int, remark: str = "") -> None:
    """Put a scenario into the table."""
    ROWS.append(Row(scenario, jobs, ended, doubles, remark))


def table() -> list[str]:
    """The table as lines of text."""
    rows = [
        ("scenario", "jobs", "ended", "doubles", ""),
        *((r.scenario, *map(str, (r.jobs, r.ended, r.doubles)), r.remark) for r in ROWS),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in (1, 2, 3)), row[4]]).rstrip()
        for row in rows
    ]
