"""Jobs as they are exported: documents, rows and files, a page at a time."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from ryla_tasks.artifacts import ArtifactNotFound, InvalidArtifactKey
from ryla_tasks.celery_app import current_app
from ryla_tasks.cli.documents import event_document, job_document
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.store.events import Event, events_of
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["Files", "write_csv", "write_jsonl"]

_PAGE = 200

_PLAIN = ("job_id", "status", "kind", "endpoint", "task", "label", "user_id", "priority", "created", "submitted",
          "ended", "attempt", "retries", "target", "remote_id", "cancel", "alias_of", "retry_of", "cost_usd",
          "max_cost_usd")  # fmt: skip
_COLUMNS = (*_PLAIN, "tags", "sheet", "cell", "error_type", "error_code", "error_message", "billed_s", "total_s",
            "artifacts")  # fmt: skip

#: A spreadsheet takes a cell that begins so for a formula, and users choose their own ids.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Files:
    """Copies the files of jobs into a folder, each under its key; `missing` are the keys of those that are gone."""

    def __init__(self, folder: Path) -> None:
        self.copied = 0
        self.missing: list[str] = []
        self._folder = folder.resolve()
        self._store = runtime_of(current_app()).artifacts

    def copy(self, record: JobRecord) -> list[str]:
        """Copy the files of a job; returns their paths in the folder. What is there already is not read again."""
        result = (record.ending or {}).get("result") or {}
        keys = [artifact["key"] for artifact in result.get("artifacts", ())]
        return [key for key in keys if self._copy(key)]

    def _copy(self, key: str) -> bool:
        path = (self._folder / key).resolve()
        if path.is_file() and path.is_relative_to(self._folder):
            return True
        try:
            data = self._store.get(key)
        except (ArtifactNotFound, InvalidArtifactKey):
            self.missing.append(key)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.copied += 1
        return True


def write_jsonl(out: TextIO, records: Iterable[JobRecord], files: Files | None) -> int:
    """Write a JSON document a line for each job, with its events; returns how many there were."""
    count = 0
    for record, events in _with_events(records):
        document = _document(record)
        document["events"] = [event_document(event) for event in events]
        if files is not None:
            document["files"] = files.copy(record)
        out.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
        count += 1
    out.flush()
    return count


def write_csv(out: TextIO, records: Iterable[JobRecord], files: Files | None) -> int:
    """Write a row for each job below the names of the columns; returns how many there were. Events are left out."""
    count = 0
    rows = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    rows.writeheader()
    for record in records:
        rows.writerow({name: _cell(value) for name, value in _row(_document(record)).items()})
        if files is not None:
            files.copy(record)
        count += 1
    out.flush()
    return count


def _with_events(records: Iterable[JobRecord]) -> Iterator[tuple[JobRecord, list[Event]]]:
    store = runtime_of(current_app()).store
    left = iter(records)
    while page := list(islice(left, _PAGE)):
        yield from zip(page, events_of(store.client, store.prefix, [one.job_id for one in page]), strict=True)


def _document(record: JobRecord) -> dict[str, Any]:
    """A job without secrets: its input is not in its record, and what a GPU worker said may hold URLs and keys."""
    document = job_document(record, time.time())
    document |= {name: _safe(document[name]) for name in ("result", "error", "message")}
    return {**document, "sheet": record.spec.sheet or None, "cell": record.spec.cell or None}


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {name: _safe(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(one) for one in value]
    return value


def _row(document: Mapping[str, Any]) -> dict[str, Any]:
    result, error = document["result"] or {}, document["error"] or {}
    return {
        **{name: document[name] for name in _PLAIN},
        "tags": " ".join(document["tags"]),
        "sheet": document["sheet"],
        "cell": document["cell"],
        "error_type": error.get("type"),
        "error_code": error.get("code"),
        "error_message": error.get("message"),
        "billed_s": (result.get("cost") or {}).get("billed_s"),
        "total_s": (result.get("timings") or {}).get("total_s"),
        "artifacts": " ".join(artifact["key"] for artifact in result.get("artifacts", ())),
    }


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
