"""Following a job to its end, and what to say and to return then."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ryla_tasks.celery_app import current_app
from ryla_tasks.cli.documents import error_document, job_document
from ryla_tasks.cli.exits import Exit
from ryla_tasks.cli.views import View
from ryla_tasks.errors import WaitTimeout
from ryla_tasks.job import Job
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.store.events import START
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["end_code", "ended_document", "follow", "print_end", "save_files"]

_SLICE_S = 1.0


def follow(
    job: Job, view: View, *, timeout: float | None = None, check: Callable[[], None] = lambda: None
) -> JobRecord:
    """Show what happens to a job until it ends; returns its record.

    `check` is called about each second and may raise. Raises `WaitTimeout` after `timeout` seconds; the job goes on.
    """
    end = None if timeout is None else time.monotonic() + timeout
    position = START
    while True:
        left = _SLICE_S if end is None else min(_SLICE_S, max(0.0, end - time.monotonic()))
        for event in job.events(position, follow=True, timeout=left):
            view.show(event)
            position = event.position
        record = job.record
        if record.state.ended:
            for event in job.events(position):
                view.show(event)
            return record
        if end is not None and time.monotonic() >= end:
            raise WaitTimeout(f"Job {job.id} is {record.state} after {timeout:g} s; it goes on.")
        check()


def end_code(record: JobRecord) -> Exit:
    """The exit code for a job that has ended."""
    return Exit.OK if record.state is State.COMPLETED else Exit.FAILED


def save_files(job: Job, folder: Path) -> list[Path]:
    """Write a completed job's files into a folder, which is made; each begins with the start of the job's id, and of a
    sheet goes on with the name of its cell."""
    artifacts = job.artifacts
    if not artifacts:
        return []
    store = runtime_of(current_app()).artifacts
    folder.mkdir(parents=True, exist_ok=True)
    cells = {
        artifact["key"]: f"{cell['name']}-" for cell in job.result().get("cells", ()) for artifact in cell["artifacts"]
    }
    written = []
    for artifact in artifacts:
        path = folder / f"{job.id[:8]}-{cells.get(artifact.key, '')}{artifact.filename}"
        path.write_bytes(store.get(artifact.key))
        written.append(path)
    return written


def ended_document(record: JobRecord, files: list[Path]) -> dict[str, Any]:
    """The document of an ended job, with the files that were written here."""
    return {**job_document(record, time.time()), "files": [str(path) for path in files]}


def print_end(out: Console, record: JobRecord, files: list[Path]) -> None:
    """Tell a person how a job ended."""
    error = error_document(record)
    if error is not None:
        out.print(f"{record.state.sentence}: {error['message']} ({error['type']})", style="red", soft_wrap=True)
        if error["details"]:
            out.print(f"Details: {error['details']}", style="dim", soft_wrap=True)
        return
    result = (record.ending or {}).get("result", {})
    out.print(_summary(record, result), style="green" if record.state is State.COMPLETED else "yellow")
    for warning in result.get("warnings", ()):
        out.print(f"Warning: {warning}", style="yellow", soft_wrap=True)
    for path in files:
        out.print(str(path), soft_wrap=True)
    if not files:
        for artifact in result.get("artifacts", ()):
            out.print(f"{artifact['key']}  {artifact['content_type']}  {artifact['bytes']} bytes", soft_wrap=True)
    if result.get("data") is not None:
        out.print_json(data=result["data"])


def _summary(record: JobRecord, result: dict[str, Any]) -> str:
    timings, cost = result.get("timings", {}), result.get("cost", {})
    parts = [record.state.sentence]
    if timings.get("total_s") is not None:
        parts.append(f"after {timings['total_s']:.1f} s")
    if timings.get("executed_s") is not None:
        parts.append(f"({timings['executed_s']:.1f} s on the GPU)")
    if cost.get("usd") is not None:
        parts.append(f"for about ${cost['usd']:.5f}")
    return " ".join(parts)
