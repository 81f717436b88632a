"""What it does when it hears of a job. With SITE_DIE a worker dies when it has saved an end for the first time."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db.models import F
from django.dispatch import receiver

from ryla_tasks.contrib.django import Awaited, Wish, job_accepted, job_ended
from tests.support.django_site.models import Picture


@receiver(job_accepted)
def note(sender: Any, *, job: Any, visitor: Any, wish: Wish, **_: Any) -> None:
    title = wish.kwargs.get("prompt", "")
    if title == "refused by the site":
        raise PermissionError(title)
    kept = {"owner": visitor.user_id, "title": title, "wish": dataclasses.asdict(wish)}
    Picture.objects.update_or_create(job_id=job.id, defaults=kept)


@receiver(job_ended)
def save(sender: Any, *, job: Any, record: Any, **_: Any) -> None:
    kept = {"status": str(record.state), "owner": record.spec.user_id}
    Picture.objects.update_or_create(job_id=job.id, defaults=kept)
    Picture.objects.filter(job_id=job.id).update(heard=F("heard") + 1)
    if "SITE_DIE" in os.environ and not Path(os.environ["SITE_DIE"]).exists():
        Path(os.environ["SITE_DIE"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def awaited() -> Iterator[Awaited]:
    for picture in Picture.objects.filter(status=""):
        yield Awaited(picture.job_id, picture.created_at, Wish(**picture.wish))
