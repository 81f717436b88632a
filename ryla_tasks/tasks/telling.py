"""Telling jobs in line why they wait there."""

from __future__ import annotations

from celery import Celery

from ryla_tasks.errors import JobNotFound
from ryla_tasks.jobs.breaker import HELD
from ryla_tasks.jobs.states import State
from ryla_tasks.tasks.runtime import Runtime, runtime_of

__all__ = ["tell_job", "tell_line"]

#: Jobs that are looked at in one round trip.
_PAGE = 100


def tell_job(runtime: Runtime, job_id: str, message: str) -> None:
    """Tell whoever follows a job why it is held back, once."""
    try:
        record, now = runtime.store.load(job_id)
    except JobNotFound:
        return
    if record.state is State.QUEUED and record.observed.message != message:
        runtime.store.remark(record, message, now)


def tell_line(app: Celery, target: str) -> None:
    """A target's breaker has opened: tell the jobs in line at its endpoints, where they have nowhere else to go."""
    runtime = runtime_of(app)
    for endpoint in runtime.settings.endpoints.values():
        targets = [one.id for one in endpoint.targets]
        if target in targets and all(runtime.breakers.of(one)[0].is_open for one in targets):
            _tell_all(runtime, endpoint.name)


def _tell_all(runtime: Runtime, endpoint: str) -> None:
    """Jobs leave the line meanwhile, so a page may skip some; those are on their way, and not held back."""
    start = 0
    while True:
        records, now = runtime.store.in_line(endpoint, start, _PAGE)
        if not records:
            return
        for record in records:
            if record.state is State.QUEUED and record.observed.message != HELD:
                runtime.store.remark(record, HELD, now)
        start += _PAGE
