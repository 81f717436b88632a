"""What a webhook call does: it is a nudge to look, never a fact.

The body is not believed. Of it only the remote job's id is read, and only for an attempt whose submit was not answered;
that remote job is then asked after at the endpoint before anything becomes of it. A doubled, late, forged or replayed
call changes nothing.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from ryla_tasks.celery_app import current_app
from ryla_tasks.errors import JobNotFound
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import POLLED, State
from ryla_tasks.logs import Log
from ryla_tasks.tasks.messages import send_adoption, send_poll
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.tasks.webhook_token import Attempt, read_token

__all__ = ["MOST_BYTES", "Received", "receive"]

log = Log(__name__)

#: A larger body is not read. RunPod sends the whole job with its input (10 MB at most) and its output (20 MB).
MOST_BYTES = 32 * 1024 * 1024

_LONGEST_ID = 128


class Received(Enum):
    """What became of a call; the value is the HTTP status to answer with. RunPod tries again on any but 2xx."""

    NOTED = 200
    FORGED = 404
    TOO_LARGE = 413
    NOT_SET_UP = 503


def receive(token: str, body: bytes) -> Received:
    """Take a webhook call: the last part of its path, and its body.

    Raises `StoreUnavailable` where Redis is away; answer 503 then, and RunPod will call again.
    """
    runtime = runtime_of(current_app())
    secret = runtime.settings.webhook_secret
    if secret is None:
        return Received.NOT_SET_UP
    attempt = read_token(secret, token)
    if attempt is None:
        log.warning("webhook.forged")
        return Received.FORGED
    if len(body) > MOST_BYTES:
        return Received.TOO_LARGE
    try:
        record, _now = runtime.store.load(attempt.job_id)
    except JobNotFound:
        return Received.NOTED  # a late call, after the record's retention
    _act(record, attempt, body)
    return Received.NOTED


def _act(record: JobRecord, attempt: Attempt, body: bytes) -> None:
    app = current_app()
    if record.state in POLLED and record.attempt == attempt.number:
        wake_s, target = runtime_of(app).store.nudge(record.job_id)
        send_poll(app, target, wake_s)
        return
    waits = record.state in (State.SUBMITTING, State.UNKNOWN) and record.attempt == attempt.number
    if not waits and attempt.number not in dict(record.unanswered):
        return
    remote_id = _remote_id(body)
    if remote_id is not None:
        log.info("webhook.names", record.with_(attempt=attempt.number, remote_id=remote_id))
        send_adoption(app, record.job_id, attempt.number, remote_id)


def _remote_id(body: bytes) -> str | None:
    """The remote job's id in a body, if there is one that could be one."""
    try:
        said: Any = json.loads(body)
    except ValueError:
        return None
    remote_id = said.get("id") if isinstance(said, dict) else None
    if not isinstance(remote_id, str) or not 0 < len(remote_id) <= _LONGEST_ID:
        return None
    return remote_id if all(sign.isalnum() or sign in "-_" for sign in remote_id) else None
