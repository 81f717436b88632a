"""A row and its job together, and what is saved when a job has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.dispatch import receiver
from django.utils import timezone

from ryla_tasks import Job
from ryla_tasks.contrib.django import Awaited, Wish, enqueue_on_commit, job_ended
from studio.models import Character, Work

__all__ = ["awaited", "begin", "try_again"]


def begin(character: Character, kind: str, title: str, wish: Wish) -> Work:
    """Write down what is asked for; its job is enqueued when the request's transaction commits (ATOMIC_REQUESTS).
    Raises `InvalidJob`."""
    job = enqueue_on_commit(wish.task, *wish.args, **wish.kwargs)
    return Work.objects.create(
        character=character, kind=kind, title=title, job_id=job.id, wish=dataclasses.asdict(wish)
    )


def try_again(work: Work) -> None:
    """Make a job anew that has ended without a result. Raises `InvalidJob`."""
    work.job_id = Job.get(work.job_id).retry().id
    work.status, work.problem, work.result = "", "", {}
    work.created_at = timezone.now()
    work.save()


@receiver(job_ended)
def save(*, job: Job, **_: Any) -> None:
    """In the worker, at least once for each job."""
    for work in Work.objects.filter(job_id=job.id):
        work.take(job)


def awaited() -> Iterator[Awaited]:
    """What `manage.py ryla_outbox` looks through."""
    late = timezone.now() - timedelta(minutes=1)
    for work in Work.objects.filter(status="", created_at__lt=late):
        yield Awaited(work.job_id, work.created_at, Wish(**work.wish))
