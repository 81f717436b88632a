"""Errors as HTTP answers. What goes wrong on our side is told in a sentence, and its details stay with us."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ryla_tasks.artifacts import ArtifactError, ArtifactNotFound
from ryla_tasks.errors import (
    EnqueueUnknown,
    IdempotencyConflict,
    InvalidJob,
    JobNotFound,
    NotSignedIn,
    PayloadTooLarge,
    RylaError,
    StoreError,
)

__all__ = ["Reply", "reply_to"]

_COME_BACK = {"Retry-After": "5"}
_UNKNOWN = "It is not known whether the job was taken. Ask again with the same Idempotency-Key."

#: The first that fits counts: status, headers, and the sentence in place of the error's own.
_REPLIES: tuple[tuple[type[RylaError], int, dict[str, str], str], ...] = (
    (NotSignedIn, 401, {}, ""),
    (JobNotFound, 404, {}, "There is no such job."),
    (ArtifactNotFound, 404, {}, "There is no such file."),
    (PayloadTooLarge, 413, {}, ""),
    (IdempotencyConflict, 409, {}, ""),
    (InvalidJob, 400, {}, ""),
    (
        EnqueueUnknown,
        503,
        _COME_BACK,
        _UNKNOWN,
    ),
    (StoreError, 503, _COME_BACK, "Jobs cannot be reached right now. Try again in a moment."),
    (ArtifactError, 503, _COME_BACK, "Files cannot be reached right now. Try again in a moment."),
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer with a JSON body."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def reply_to(error: RylaError) -> Reply:
    """The answer for an error: `{"error": {"type", "message", "field"}}`. Raises the error where it is a fault of the
    app or its settings, which is for the framework's own handling."""
    for kind, status, headers, sentence in _REPLIES:
        if isinstance(error, kind):
            told: dict[str, Any] = {"type": type(error).__name__, "message": sentence or str(error)}
            if isinstance(error, InvalidJob):
                told["field"] = error.field
            if isinstance(error, EnqueueUnknown):
                told["job_id"] = error.job_id
            return Reply(status, {"error": told}, dict(headers))
    raise error
