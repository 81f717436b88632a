"""Why an endpoint answers 404 for a job that it was given: judged by the job's age and by what was seen of it. Pure.

RunPod says no more than "not found", of a job that is too new, that it has lost, whose result it has deleted, or that
was sent elsewhere (operation-reference.mdx). Each asks for something else from whoever runs the endpoint.
"""

from __future__ import annotations

from typing import Any

from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.verdicts import Absence

__all__ = ["GRACE_S", "REMOTE_RETENTION_S", "absence_details", "absence_of", "endpoint_absence_of"]

#: RunPod keeps an async result this long after the job's end (operation-reference.mdx).
REMOTE_RETENTION_S = 1_800.0

#: A new job may be unknown to /status for a moment, and a live one has been seen to vanish for a while.
GRACE_S = 60.0


def absence_of(record: JobRecord, now: float) -> Absence:
    """Why the endpoint does not know the job. `missing_since` must say since when, unless this is the first time."""
    observed = record.observed
    if now - record.submitted < GRACE_S:
        # Also where it is to stop: a job that is not known yet could not be cancelled either.
        return Absence.JUST_MADE
    since = observed.missing_since or now
    if now - since < GRACE_S and not record.cancel:
        return Absence.VANISHED
    if since - record.submitted > record.spec.ttl_s:
        return Absence.TTL
    if since - (observed.seen_at or record.submitted) > REMOTE_RETENTION_S:
        return Absence.RESULT_EXPIRED
    seen = observed.status or record.state is not State.WAITING
    return Absence.LOST if seen else Absence.WRONG_ENDPOINT


def endpoint_absence_of(record: JobRecord, now: float) -> Absence:
    """The same where the endpoint itself is not found. It may come back, until no result could be there any more."""
    patience = GRACE_S if record.cancel else REMOTE_RETENTION_S
    since = record.observed.missing_since or now
    return Absence.VANISHED if now - since < patience else Absence.ENDPOINT_GONE


def absence_details(record: JobRecord, now: float) -> dict[str, Any]:
    """What a developer needs to tell a deleted job from a wrong setting."""
    observed = record.observed
    return {
        "target": record.target,
        "remote_id": record.remote_id,
        "age_s": round(now - record.submitted, 1),
        "missing_s": round(now - (observed.missing_since or now), 1),
        "last_status": observed.status,
    }
