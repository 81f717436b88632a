"""Leaving a target for another one: when a job does, and what becomes of it. Pure.

Only two things make a job leave. It waits in the queue of a target to which no worker can come: then it is withdrawn
there first, and goes on when the cloud says that it is cancelled, never before. Or the target surely did not take it,
for a reason that is the target's own. A job whose submit has no answer never leaves, nor does one that runs.
"""

from __future__ import annotations

from dataclasses import replace

from ryla_tasks.errors import Category, EndpointNotFound, ProviderError, Unauthorized
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.record import JobRecord, Observed
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import State

__all__ = ["is_the_targets", "moved", "withdrawn"]

_LEAVING = "No GPU has come; moving to another endpoint"
_MOVED = "Trying another GPU endpoint"


def withdrawn(record: JobRecord, job: RemoteJob, observed: Observed, elsewhere: str) -> tuple[Observed, bool | None]:
    """What is observed of a job under way, with whether it leaves; and whether its remote job is to be cancelled
    (True), not any more (False: it has begun to run after all), or as before (None).

    That it was to leave is kept to the end of the attempt: the cancel may be on its way, held up by whoever sends it.
    """
    if observed.leaving and job.status is RemoteStatus.IN_PROGRESS:
        return observed, None if record.state is State.RUNNING else False
    waits = job.status is RemoteStatus.IN_QUEUE and observed.stuck
    if not waits or not elsewhere or record.cancel or observed.leaving:
        return observed, None
    return replace(observed, leaving=observed.stuck, waiting=_LEAVING), True


def is_the_targets(error: ProviderError) -> bool:
    """Whether a refused submit is the target's doing, so that another target may well take the job."""
    return isinstance(error, (EndpointNotFound, Unauthorized)) or error.category is Category.TRANSIENT


def moved(record: JobRecord, why: str) -> JobRecord:
    """The job in line again, for another target. The new one may refuse it as often as the old one."""
    before = record.observed
    observed = Observed(
        message=_MOVED,
        crashes=before.crashes,
        recoveries=before.recoveries,
    )
    return record.with_(
        state=State.QUEUED,
        retries=0,
        fallbacks=(*record.fallbacks, Fallback(FallbackKind.ENDPOINT, record.target, "", why, record.attempt)),
        observed=observed,
        remote_id="",
        submitted=0.0,
    )
