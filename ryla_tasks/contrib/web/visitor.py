"""Who asks, and which jobs they may see and stop: their own, unless the app says that they see all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ryla_tasks.errors import ConfigurationError, InvalidJob, JobNotFound, NotSignedIn
from ryla_tasks.job import Job, list_jobs
from ryla_tasks.jobs.record import JobRecord

__all__ = ["Visitor", "job_of", "jobs_of", "visitor_of"]

_LONGEST_ID = 128
_MOST_NUMBER = 10**100
_MOST_LISTED = 200


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody whom the app knows. `user_id` is whose their jobs are; `sees_all` is for staff."""

    user_id: str
    sees_all: bool = False

    def may_see(self, record: JobRecord) -> bool:
        """Whether a job is this visitor's business. A job without a user is nobody's."""
        return self.sees_all or record.spec.user_id == self.user_id


def visitor_of(known: Any) -> Visitor:
    """What an app's hook said of who asks: a `Visitor`, a user's id (text or a number), or None for a stranger.

    Raises `NotSignedIn` for a stranger, and `ConfigurationError` for anything else, which is the app's mistake.
    """
    if known is None or known == "":
        raise NotSignedIn
    if isinstance(known, int) and not isinstance(known, bool) and abs(known) < _MOST_NUMBER:
        known = str(known)
    visitor = Visitor(known) if isinstance(known, str) else known
    if not isinstance(visitor, Visitor) or not isinstance(visitor.user_id, str):
        raise ConfigurationError(
            f"the hook that says who asks gave {type(known).__name__}: it must give a Visitor, a user's id, or None"
        )
    if not 0 < len(visitor.user_id) <= _LONGEST_ID or not _is_text(visitor.user_id):
        raise ConfigurationError(
            f"the hook that says who asks gave an id that is no text of 1 to {_LONGEST_ID} characters"
        )
    return visitor


def job_of(visitor: Visitor, job_id: str) -> Job:
    """A job that the visitor may see; one that has ended is read once. Raises `JobNotFound` for any other: whether it
    exists is nobody's business."""
    record = Job(job_id).record if _is_text(job_id) else None
    if record is None or not visitor.may_see(record):
        raise JobNotFound(f"there is no job {job_id!r}")
    return Job.of(record)


def jobs_of(visitor: Visitor, query: Mapping[str, str]) -> list[JobRecord]:
    """The visitor's own jobs, newest first, as a query asks for them: `status`, `kind`, `limit` (50; at most 200).

    Raises `InvalidJob` naming what is wrong.
    """
    limit = query.get("limit", "50")
    if not limit.isascii() or not limit.isdigit() or len(limit) > 6:
        raise InvalidJob("limit: must be a number, 0 or more", field="limit")
    return list_jobs(
        user_id=visitor.user_id,
        status=query.get("status") or None,
        kind=query.get("kind") or None,
        limit=min(int(limit), _MOST_LISTED),
    )


def _is_text(said: str) -> bool:
    """Whether it can be written: JSON has halves of characters, too."""
    try:
        said.encode()
    except UnicodeEncodeError:
        return False
    return True
