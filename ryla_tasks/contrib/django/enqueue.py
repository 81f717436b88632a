"""Jobs that are enqueued when a transaction commits, and never when it is rolled back.

Between the commit and the enqueue a process may die, and Redis may be away. So a row that must not stay without its job
keeps the job's id, which is known before the commit, and is found again by it (outbox.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import connections, transaction
from kombu.utils.uuid import uuid as new_id

from ryla_tasks.celery_app import current_app
from ryla_tasks.contrib.django.conf import web_settings
from ryla_tasks.contrib.django.signals import job_accepted
from ryla_tasks.contrib.web import Visitor, Wish, read_wish
from ryla_tasks.errors import ConfigurationError, StoreError
from ryla_tasks.job import Job
from ryla_tasks.logs import Log
from ryla_tasks.tasks.base import ServerlessTask
from ryla_tasks.tasks.enqueue import made_before

__all__ = ["check_wish", "enqueue_on_commit", "submit"]

log = Log(__name__)

#: Makes a job's id of its user and idempotency key, so that a request that is made again means the same row.
_BY_KEY = uuid.UUID("5f0f7f0e-6d3f-4c27-9d53-7d1b9f1c6a42")


def enqueue_on_commit(
    task: ServerlessTask | str, *args: Any, job_id: str = "", using: str | None = None, **kwargs: Any
) -> Job:
    """Enqueue a job when the transaction of the database `using` commits; at once where there is none.

        with transaction.atomic():
            job = enqueue_on_commit(generate_image, template="z-image-turbo", prompt=prompt, user_id=str(user.pk))
            Picture.objects.create(owner=user, job_id=job.id)

    `task` is one of ours, or a task of one's own on `ServerlessTask`, or its name; what follows are its arguments and
    job options. The job's id is drawn, and the arguments are checked, here: bad input raises `InvalidJob` before
    anything is committed. The job's record is not there before the commit, and after a rollback never.

    Where Redis is away at the commit, the error is logged with the job's id (`job.not_enqueued`). With
    `RYLA_WEB["OUTBOX"]` that is all, as `manage.py ryla_outbox` enqueues the job later; without, it is raised after the
    commit, as whatever an `on_commit` function raises is: `StoreUnavailable`, or `EnqueueUnknown`.

    With an `idempotency_key`, a wish that was made before has its job's handle back, and nothing is enqueued; another
    wish under the key raises `IdempotencyConflict`. For that Redis is asked, here.
    """
    wish = Wish(task if isinstance(task, str) else str(task.name), args, kwargs)
    return _on_commit(wish, job_id, using)[0]


def submit(visitor: Visitor, said: Mapping[str, Any], *, idempotency_key: str = "", using: str | None = None) -> Job:
    """What POST jobs does, for views of one's own: accept the job that a browser asks for, together with the rows that
    receivers of `job_accepted` write.

    Raises `InvalidJob` naming the field, what a receiver raises, and where no outbox is set what enqueueing raises.
    """
    wish = read_wish(visitor, said, web_settings().rules, idempotency_key=idempotency_key)
    if not job_accepted.has_listeners(Job):
        return _on_commit(wish, "", using)[0]
    with transaction.atomic(using):
        job, is_new = _on_commit(wish, "", using)
        if is_new:
            job_accepted.send(sender=Job, job=job, visitor=visitor, wish=wish)
    return job


def check_wish(wish: Wish) -> tuple[ServerlessTask, Any]:
    """The task that a wish is for, and the spec that its job would have. Raises `InvalidJob`, `ConfigurationError`."""
    task = current_app().tasks.get(wish.task)
    if not isinstance(task, ServerlessTask):
        raise ConfigurationError(
            f"{wish.task!r} is no task on an endpoint in the Celery app that jobs are sent through"
        )
    return task, task.check(wish.args, wish.kwargs)


def _on_commit(wish: Wish, job_id: str, using: str | None) -> tuple[Job, bool]:
    """The job of a wish, and whether it is yet to be enqueued."""
    task, spec = check_wish(wish)
    earlier = made_before(task, spec, (wish.args, wish.kwargs))
    if earlier is not None:
        return Job(earlier), False
    if not job_id:
        key = f"{len(spec.user_id)}:{spec.user_id}:{spec.idempotency_key}"
        job_id = str(uuid.uuid5(_BY_KEY, key)) if spec.idempotency_key else new_id()

    def enqueue() -> None:
        try:
            wish.enqueue(job_id)
        except StoreError as error:
            log.error("job.not_enqueued", job_id, task=wish.task, error=type(error).__name__)
            if web_settings().outbox is None:
                raise

    if connections[using or "default"].vendor == "unknown":
        enqueue()  # the project has no database, and so no transactions
    else:
        transaction.on_commit(enqueue, using=using)
    return Job(job_id), True
