"""Jobs whose transaction has committed, and that Redis has not got: a process died in between, or Redis was away.

The rows are the project's own, so it says which they are, with `RYLA_WEB = {"OUTBOX": "studio.jobs.awaited"}`:

    def awaited():
        for picture in Picture.objects.filter(status=""):
            yield Awaited(picture.job_id, picture.created_at, Wish(**picture.wish))

`manage.py ryla_outbox` enqueues those that have no job. It may run at any time, beside itself, and beside the requests
that it helps: a job is made once, by its id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from ryla_tasks.contrib.django.conf import web_settings
from ryla_tasks.contrib.django.enqueue import check_wish
from ryla_tasks.contrib.web import Wish
from ryla_tasks.errors import ConfigurationError, InvalidJob, JobNotFound
from ryla_tasks.job import Job
from ryla_tasks.logs import Log

__all__ = ["Awaited", "Outcome", "enqueue_missing", "summary"]

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Awaited:
    """A row that waits for the end of its job: the job's id, since when, and what the job is."""

    job_id: str
    since: datetime
    wish: Wish


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of them: `there` already, `enqueued`, `refused` as bad input, or `too old`."""

    job_id: str
    word: str
    problem: str = ""


def enqueue_missing(awaited: Iterable[Awaited] | None = None) -> Iterator[Outcome]:
    """Enqueue the jobs that are not there, one after the other.

    A job's record is kept for days after its end (`retention_s`). A row that has waited longer may be that of a job
    that has run, so it is `too old`, and left alone: it would be paid for twice. Raises `StoreError`, and
    `ConfigurationError` where no outbox is set.
    """
    if awaited is None:
        outbox = web_settings().outbox
        if outbox is None:
            raise ConfigurationError("RYLA_WEB['OUTBOX']: is not set; docs/django.md tells what it is", "RYLA_WEB")
        awaited = outbox()
    for one in awaited:
        yield _enqueue(one)


def summary(outcomes: Iterable[Outcome]) -> str:
    """How many there were of each, in words."""
    counts = Counter(outcome.word for outcome in outcomes)
    return ", ".join(f"{counts[word]} {word}" for word in ("there", "enqueued", "refused", "too old"))


def _enqueue(one: Awaited) -> Outcome:
    try:
        Job.get(one.job_id)
    except JobNotFound:
        pass
    else:
        return Outcome(one.job_id, "there")
    try:
        _task, spec = check_wish(one.wish)
        if timezone.now() - one.since > timedelta(seconds=spec.retention_s):
            return Outcome(one.job_id, "too old", f"it waits since {one.since:%Y-%m-%d}: its job may have run")
        job = one.wish.enqueue(one.job_id)
    except InvalidJob as error:
        return Outcome(one.job_id, "refused", str(error))
    if job.id != one.job_id:
        return Outcome(one.job_id, "refused", f"its idempotency key stands for the job {job.id}")
    log.info("job.enqueued_late", one.job_id, task=one.wish.task)
    return Outcome(one.job_id, "enqueued")
