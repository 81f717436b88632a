"""What a Django project hears of its jobs.

    @receiver(job_ended)
    def save(*, job, record, **_): ...

Connect receivers in a module that an `AppConfig.ready` imports, as with any signal.
"""

from __future__ import annotations

from typing import Any

from django.db import close_old_connections
from django.dispatch import Signal

from ryla_tasks import signals
from ryla_tasks.job import Job
from ryla_tasks.jobs.record import JobRecord

__all__ = ["connect", "job_accepted", "job_ended"]

#: A job that a browser asked for is about to be accepted, with `job` (a `Job`), `visitor` and `wish` (a `Wish`). Sent
#: in the web process, within the transaction at whose commit the job is enqueued: a row that a receiver writes is
#: there if and only if the job is to be, and what a receiver raises leaves neither. The job's record is not there yet.
#: A request that is made again with the same Idempotency-Key has the same job, so a receiver must bear to be called
#: twice.
job_accepted = Signal()

#: A job has ended, of whatever kind and whoever enqueued it, with `job` and `record` and `Job` as sender. Sent in the
#: worker process, **at least once**, as `ryla_tasks.signals.job_ended` is: a receiver must bear to be called twice for
#: the same job (`update_or_create` by its id), and one that raises is called again, with all others. So the worker has
#: to have the project: `manage.py ryla_worker`.
job_ended = Signal()


def connect() -> None:
    """Pass the ends of jobs on to Django's signal. Safe to call twice."""
    signals.job_ended.connect(_pass_on, dispatch_uid="ryla_tasks.contrib.django", weak=False)


def _pass_on(*, job: Job, record: JobRecord, **_more: Any) -> None:
    """Call every receiver, whatever the others do. Raises what the first that failed has raised.

    Receivers run in threads of the worker, each of which has database connections of its own that no request closes:
    those that are too old or broken are closed before, and those that are not to be kept (CONN_MAX_AGE) after.
    """
    close_old_connections()
    try:
        answers = job_ended.send_robust(sender=Job, job=job, record=record)
    finally:
        close_old_connections()
    # Django has logged each with its traceback.
    for _receiver, answer in answers:
        if isinstance(answer, Exception):
            raise answer
