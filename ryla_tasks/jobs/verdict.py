"""What a failure seen at the cloud means: which error the job ends with, and what its user is told."""

from __future__ import annotations

import json
from typing import Any

from ryla_tasks.errors import (
    Category,
    EndpointNotFound,
    JobError,
    JobFailed,
    JobTimedOut,
    ProviderError,
    RateLimited,
    SubmitOutcomeUnknown,
    SubmitRejected,
    Unauthorized,
)
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.jobs.remote import RemoteJob

__all__ = ["remote_failure", "remote_time_out", "submit_refused", "submit_unknown"]


def remote_failure(remote: RemoteJob) -> JobError:
    """The error for a remote job that ended FAILED.

    The `runpod` SDK sends a handler's exception as a JSON string with `error_type`, `error_message` and a
    traceback; a handler that returns `{"error": ...}` sends that text, and its other keys as `output`.
    """
    return JobFailed(
        "The GPU worker reported an error.",
        {
            "code": "worker_error",
            "category": str(Category.PERMANENT),
            "details": {
                "error": _worker_error(remote.error),
                "output": _short(remote.output),
                "worker_id": remote.worker_id,
                "retries": remote.retries,
            },
        },
    )


def remote_time_out(remote: RemoteJob) -> JobError:
    """The error for a remote job that RunPod stopped at its execution time-out or its ttl."""
    return JobTimedOut(
        "The job took longer than the endpoint allows.",
        {
            "code": "remote_time_out",
            "category": str(Category.RECOVERABLE),
            "details": {"error": _worker_error(remote.error), "execution_ms": remote.execution_ms},
        },
    )


def submit_refused(error: ProviderError) -> JobError:
    """The error for a job that the endpoint surely did not take."""
    return SubmitRejected(
        _REFUSALS.get(type(error), "The GPU endpoint did not take the job."),
        {"code": "submit_rejected", "category": str(error.category), "details": _call_details(error)},
    )


def submit_unknown(error: ProviderError | None) -> JobError:
    """The error for a submit whose answer was lost; None where the worker process that sent it is gone."""
    return SubmitOutcomeUnknown(
        "The connection broke while the job was sent, and it was not sent again, so that it is not paid for twice.",
        {
            "code": "submit_unknown",
            "category": str(Category.RECOVERABLE),
            "details": _call_details(error) if error else {"error": "the worker process ended during the submit"},
        },
    )


_REFUSALS: dict[type[ProviderError], str] = {
    Unauthorized: "The GPU endpoint refused our API key.",
    EndpointNotFound: "The GPU endpoint does not exist.",
    RateLimited: "The GPU endpoint is too busy.",
}


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
