"""Verdicts: what every failure that can be seen means. Pure; the rows stand in `table.py`, see docs/errors.md."""

from __future__ import annotations

from ryla_tasks.jobs.verdicts.call_rows import SUBMIT
from ryla_tasks.jobs.verdicts.failures import (
    Absence,
    Absent,
    Failure,
    Refused,
    RemoteEnded,
    Reported,
    StatusFailed,
    SubmitLost,
)
from ryla_tasks.jobs.verdicts.report import NOTHING, Report, read_report
from ryla_tasks.jobs.verdicts.row import Row
from ryla_tasks.jobs.verdicts.table import ROWS
from ryla_tasks.jobs.verdicts.verdict import Next, Verdict
from ryla_tasks.jobs.verdicts.worker_rows import WORKER

__all__ = [
    "CRASHES",
    "FOLLOWED",
    "Absence",
    "Absent",
    "Failure",
    "Next",
    "Refused",
    "RemoteEnded",
    "Reported",
    "StatusFailed",
    "SubmitLost",
    "Verdict",
    "judge",
]

#: Codes of failures that may be the input's doing.
CRASHES = frozenset(row.code for seam in ROWS for row in seam.rows if row.crash)

#: Codes of failures that another attempt may follow: the remote job is surely over, and nobody wanted it to be.
FOLLOWED = frozenset(
    row.code for seam in (SUBMIT, WORKER) for row in seam.rows if row.next in (Next.RETRY, Next.FAIL)
) - {"remote_cancelled"}


def judge(failure: Failure) -> Verdict:
    """The verdict on a failure: the first row of the table that it matches. Every failure has one."""
    report = _report(failure)
    row = _row(failure, report)
    nodes = tuple(fault.to_json() for fault in report.nodes)
    return Verdict(row.code, row.category, row.sentence, row.next, row.crash, nodes)


def _row(failure: Failure, report: Report) -> Row:
    for seam in ROWS:
        for row in seam.rows:
            if row.when.matches(failure, report):
                return row
    raise AssertionError(f"no row for {type(failure).__name__}")  # pragma: no cover - each seam ends with a catch-all


def _report(failure: Failure) -> Report:
    match failure:
        case RemoteEnded(job):
            return read_report(job.error, job.output)
        case Reported(error, more):
            return read_report(error, more)
        case _:
            return NOTHING
