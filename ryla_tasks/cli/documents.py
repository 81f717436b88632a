"""Jobs as JSON documents, for `--json`, and as words and numbers, for people."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from ryla_tasks.jobs.cost import so_far
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.falling_back import lines_of
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.store.events import Event

if TYPE_CHECKING:
    from ryla_tasks.job import Cell

__all__ = ["cell_document", "error_document", "event_document", "job_document", "local_time", "moment"]


def job_document(record: JobRecord, now: float) -> dict[str, Any]:
    """All that is kept of a job. Times are ISO 8601 in UTC, durations seconds."""
    spec, progress = record.spec, progress_of(record, now)
    ending = record.ending or {}
    return {
        "job_id": record.job_id,
        "status": str(record.state),
        "percent": progress.percent,
        "message": progress.message,
        "eta_s": progress.eta_s,
        "task": spec.task,
        "kind": spec.kind,
        "label": spec.label,
        "endpoint": spec.endpoint,
        "user_id": spec.user_id,
        "tags": list(spec.tags),
        "priority": str(spec.priority),
        "idempotency_key": spec.idempotency_key,
        "deadline_s": spec.deadline_s,
        "created": moment(record.created),
        "submitted": moment(record.submitted),
        "ended": moment(record.ended),
        "attempt": record.attempt,
        "retries": record.retries,
        "fallbacks": lines_of(record),
        "target": record.target,
        "remote_id": record.remote_id,
        "cancel": str(record.cancel) if record.cancel else None,
        "alias_of": record.alias_of or None,
        "retry_of": spec.retry_of or spec.resumes or None,
        "cost_usd": so_far(record, now),
        "max_cost_usd": spec.max_cost_usd,
        "result": ending.get("result"),
        "error": error_document(record),
    }


def cell_document(cell: Cell) -> dict[str, Any]:
    """A cell of a sheet as it stands."""
    return {
        "name": cell.name,
        "status": str(cell.status),
        "percent": cell.percent,
        "job_id": cell.job_id,
        "error": str(cell.error) if cell.error is not None else None,
    }


def error_document(record: JobRecord) -> dict[str, Any] | None:
    """The error that a job ended with: its type, the sentence for the user, and the details for a developer."""
    if not record.ending or "error" not in record.ending:
        return None
    error = raised(record.job_id, record.ending)
    return {
        "type": type(error).__name__,
        "message": str(error),
        "code": error.info.get("code", error.code),
        "category": str(error.category),
        "details": error.details,
    }


def event_document(event: Event) -> dict[str, Any]:
    """One event of a job."""
    return {"at": moment(event.at), "type": event.type, **event.data, "position": event.position}


def moment(seconds: float) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, None for 0, which stands for not yet."""
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


def local_time(seconds: float) -> str:
    """Seconds since the epoch as a person at this machine reads them."""
    if not seconds:
        return "-"
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
