"""Rows of Flower that show how a job stands, rather than how its last message did.

Celery's events tell of messages: a job that runs for an hour is STARTED with a run time of the 20 ms that its submit
took. Its record knows better. Flower asks for each row of each page, in the thread that also serves its pages, so a
look at Redis is one HMGET, is kept for a second, and after a failure none is tried for a while.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

from ryla_tasks.celery_app import current_app
from ryla_tasks.errors import RylaError
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.logs import Log
from ryla_tasks.store.codec import RECORD_FIELDS, decode_record
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["format_task"]

log = Log(__name__)

#: How long a look is good for, how many are kept, and how long none is taken after one that failed.
_FRESH_S, _KEPT, _PAUSE_S = 1.0, 5_000, 30.0

#: All of a record but how it ended, which holds the whole result.
_FIELDS = [name for name in RECORD_FIELDS if name != "ending"]

_ENDS = {
    State.COMPLETED: "SUCCESS",
    State.FAILED: "FAILURE",
    State.TIMED_OUT: "FAILURE",
    State.EXPIRED: "FAILURE",
    State.CANCELLED: "FAILURE",
}
_OPEN = frozenset({"PENDING", "SENT", "RECEIVED", "STARTED"})


def format_task(task: Any) -> Any:
    """Flower's hook: a copy of its task in, what it shows out. Other tasks than jobs stay as they are.

    Of a job `kwargs` are its kind, endpoint and label, with the arguments behind them where `show_arguments` is set;
    `result` is its phase, its percentage and its sentence; `received` is when it was accepted, `started` when it was
    sent to the endpoint, `runtime` how long it has taken so far or took in all, in seconds.
    """
    if not _may_be_job(task.name):
        return task
    record = _looks.at(task.uuid)
    if record is None:
        return task
    arguments = _shows_arguments()
    task.name = task.name or record.spec.task
    task.args = task.args if arguments else ""
    task.kwargs = _about(record) + (f"  {task.kwargs}" if arguments and task.kwargs else "")
    task.result = _standing(record)
    task.received, task.started = record.created, record.submitted or None
    task.runtime = round((record.ended or time.time()) - record.created, 3)
    task.retries = max(0, record.attempt - 1)
    if record.state.ended and task.state in _OPEN:
        # The event of its end was lost, or Flower was not there to hear it.
        task.state = _ENDS[record.state]
    return task


def _may_be_job(name: str | None) -> bool:
    """A task without a name is one whose first event Flower has missed."""
    return not name or bool(getattr(current_app().tasks.get(name), "serverless", False))


def _shows_arguments() -> bool:
    try:
        return runtime_of(current_app()).settings.show_arguments
    except RylaError:
        return False


def _about(record: JobRecord) -> str:
    spec = record.spec
    where = spec.kind if spec.kind == spec.endpoint else f"{spec.kind} @ {spec.endpoint}"
    return f"{where}  {spec.label}".strip()


def _standing(record: JobRecord) -> str:
    progress = progress_of(record, time.time())
    if record.state.ended:
        return str(record.state)
    percent = f" {progress.percent:.0f} %" if progress.percent else ""
    return f"{record.state}{percent}  {progress.message}"


class _Looks:
    """What was seen of jobs lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[float, JobRecord | None]] = OrderedDict()
        self._blind_until = 0.0

    def at(self, job_id: str) -> JobRecord | None:
        """The job's record without its ending; None where there is none, or Redis does not answer."""
        now = time.monotonic()
        with self._lock:
            until, record = self._seen.get(job_id, (0.0, None))
            if now < until or now < self._blind_until or (record is not None and record.state.ended):
                return record
        try:
            record = _read(job_id)
        except Exception as error:  # whatever it is, Flower's own row is better than none
            log.warning("flower.no_record", error=type(error).__name__)
            with self._lock:
                self._blind_until = time.monotonic() + _PAUSE_S
            return record
        with self._lock:
            self._seen[job_id] = (now + _FRESH_S, record)
            self._seen.move_to_end(job_id)
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        return record


def _read(job_id: str) -> JobRecord | None:
    runtime = runtime_of(current_app())
    found: Any = runtime.client.hmget(f"{runtime.settings.key_prefix}:job:{job_id}", _FIELDS)
    fields = dict(zip(_FIELDS, found, strict=True))
    if fields["state"] is None:
        return None
    return decode_record(job_id, [fields.get(name) for name in RECORD_FIELDS])


_looks = _Looks()
