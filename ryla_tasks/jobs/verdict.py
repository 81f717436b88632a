"""The error that a job ends with, from the verdict on what was seen: its type, its sentence, its `info`."""

from __future__ import annotations

import json
from typing import Any

from ryla_tasks.errors import (
    Category,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobTimedOut,
    ProviderError,
    SubmitOutcomeUnknown,
    SubmitRejected,
)
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.jobs.remote import RemoteJob
from ryla_tasks.jobs.verdicts import (
    CRASHES,
    Absence,
    Absent,
    Refused,
    RemoteEnded,
    Reported,
    SubmitLost,
    judge,
)

__all__ = [
    "absent",
    "is_crash",
    "may_pass",
    "poison_input",
    "remote_cancelled",
    "remote_failure",
    "remote_time_out",
    "reported",
    "submit_refused",
    "submit_unknown",
]


def remote_failure(remote: RemoteJob) -> JobError:
    """The error for a remote job that ended FAILED.

    The `runpod` SDK sends a handler's exception as a JSON string with `error_type`, `error_message` and a
    traceback; a handler that returns `{"error": ...}` sends that text, and its other keys as `output`.
    """
    verdict = judge(RemoteEnded(remote))
    details = {
        "error": _worker_error(remote.error),
        "output": _short(remote.output),
        "worker_id": remote.worker_id,
        "retries": remote.retries,
    }
    return JobFailed(verdict.sentence, verdict.info(details))


def remote_time_out(remote: RemoteJob) -> JobError:
    """The error for a remote job that RunPod stopped at its execution time-out or its ttl."""
    verdict = judge(RemoteEnded(remote))
    details = {"error": _worker_error(remote.error), "execution_ms": remote.execution_ms}
    return JobTimedOut(verdict.sentence, verdict.info(details))


def remote_cancelled(remote: RemoteJob) -> JobError:
    """The error for a remote job that somebody cancelled at the endpoint."""
    verdict = judge(RemoteEnded(remote))
    return JobCancelled(verdict.sentence, verdict.info({"worker_id": remote.worker_id}))


def reported(error: Any, more: Any = None) -> JobError:
    """The error for a remote job that COMPLETED with an error as its output. `more` is what came with it."""
    verdict = judge(Reported(error, more))
    details = {"error": _told(error)}
    if more:
        details["details"] = _told(more)
    return JobFailed(verdict.sentence, verdict.info(details))


def submit_refused(error: ProviderError) -> JobError:
    """The error for a job that the endpoint surely did not take."""
    verdict = judge(Refused(error))
    return SubmitRejected(verdict.sentence, verdict.info(_call_details(error)))


def submit_unknown(error: ProviderError | None) -> JobError:
    """The error for a submit whose answer was lost; None where the worker process that sent it is gone."""
    verdict = judge(SubmitLost(error))
    details = _call_details(error) if error else {"error": "the worker process ended during the submit"}
    return SubmitOutcomeUnknown(verdict.sentence, verdict.info(details))


def absent(why: Absence, details: Any = None) -> JobError:
    """The error for a job that its endpoint does not know any more, or never knew."""
    verdict = judge(Absent(why))
    kind = JobTimedOut if why is Absence.TTL else JobExpired
    return kind(verdict.sentence, verdict.info(details))


def poison_input(last: JobError, crashes: int) -> JobError:
    """The error for a job whose attempts have brought down this many GPU workers."""
    details = {"crashes": crashes, "last": {"code": last.info.get("code"), "details": last.details}}
    return JobFailed(
        "The job was stopped because GPU workers break off when they work on it.",
        {"code": "poison_input", "category": str(Category.PERMANENT), "details": details},
    )


def is_crash(error: JobError) -> bool:
    """Whether the failure may be the input's doing, in bringing down the GPU worker."""
    return error.info.get("code") in CRASHES


def may_pass(error: Exception) -> bool:
    """Whether a new attempt of a job that failed so may go better, by the verdict alone."""
    return isinstance(error, JobError) and error.category in (Category.TRANSIENT, Category.RECOVERABLE)


def _call_details(error: ProviderError) -> dict[str, Any]:
    return {
        "error": str(error),
        "error_type": type(error).__name__,
        "endpoint_id": error.endpoint_id,
        "http_status": error.http_status,
        "body": error.body,
    }


def _worker_error(text: str | None) -> Any:
    """A worker's error, parsed where it is JSON. Any text may come, and none may break the poll that brings it."""
    if not text:
        return None
    try:
        return _short(json.loads(text, parse_constant=str))
    except (ValueError, RecursionError):
        return redacted(text)


def _short(value: Any) -> Any:
    """The value without presigned URLs and files, or the start of its text where it is too long to keep."""
    if value is None:
        return None
    try:
        text = json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        # A NaN, or nesting without end: Python reads both as JSON, browsers and databases do not.
        return "not JSON that can be kept"
    clean = redacted(text)
    return value if clean == text else clean


def _told(value: Any) -> str:
    return redacted(value if isinstance(value, str) else json.dumps(value, default=str))
