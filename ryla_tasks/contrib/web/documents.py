"""Jobs and events as a browser sees them: nothing that is only a developer's or an operator's business."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Any

from ryla_tasks.job import Cell
from ryla_tasks.jobs.cost import so_far
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.store.events import Event

__all__ = ["Links", "cells_document", "event_document", "job_document", "jobs_document"]

#: Makes the URL of a job's file from the job's id and the file's place.
Links = Callable[[str, int], str]

_TOLD = ("phase", "percent", "message", "eta_s", "attempt")


def job_document(record: JobRecord, now: float, file_url: Links) -> dict[str, Any]:
    """A job for the page that shows it. Times are ISO 8601 in UTC, durations seconds, money US dollars."""
    spec, progress = record.spec, progress_of(record, now)
    result = (record.ending or {}).get("result") or {}
    return {
        "id": record.job_id,
        "status": str(record.state),
        "ended": record.state.ended,
        "percent": progress.percent,
        "message": progress.message,
        "eta_s": progress.eta_s,
        "attempt": progress.attempt,
        "task": spec.task.removeprefix("ryla."),
        "kind": spec.kind,
        "label": result.get("label", spec.label),
        "tags": list(spec.tags),
        "seed": result.get("seed", spec.seed),
        "created_at": _moment(record.created),
        "ended_at": _moment(record.ended),
        "cost_usd": so_far(record, now),
        "error": _error(record),
        "missing": [one.get("name") for one in result.get("missing", ())],
        "files": [
            {
                "url": file_url(record.job_id, place),
                "name": one["filename"],
                "content_type": one["content_type"],
                "bytes": one["bytes"],
                "artifact": {"key": one["key"], "content_type": one["content_type"]},
            }
            for place, one in enumerate(result.get("artifacts", ()))
        ],
    }


def jobs_document(records: Iterable[JobRecord], now: float, file_url: Links) -> dict[str, Any]:
    """A list of jobs."""
    return {"jobs": [job_document(record, now, file_url) for record in records]}


def cells_document(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """The cells of a sheet."""
    return [
        {
            "name": cell.name,
            "status": str(cell.status),
            "percent": cell.percent,
            "id": cell.job_id,
            "error": None if cell.error is None else str(cell.error),
        }
        for cell in cells
    ]


def event_document(event: Event) -> dict[str, Any]:
    """An event of a job. Which target it was at, and what took the place of what, is not for the page."""
    told = {name: event.data[name] for name in _TOLD if name in event.data}
    return {"type": event.type, **told, "at": _moment(event.at)}


def _error(record: JobRecord) -> dict[str, Any] | None:
    """The sentence for the user, and the code that docs/errors.md explains; the details stay with us."""
    if not record.ending or "error" not in record.ending:
        return None
    error = raised(record.job_id, record.ending)
    return {"type": type(error).__name__, "code": error.info.get("code", error.code), "message": str(error)}


def _moment(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
