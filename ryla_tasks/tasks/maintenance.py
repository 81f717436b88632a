"""Cancelling remote jobs: those of jobs that are to stop, and orphans that no job claims."""

from __future__ import annotations

import logging

from celery import Celery

from ryla_tasks.errors import RemoteJobNotFound, RequestRejected
from ryla_tasks.jobs.states import POLLED
from ryla_tasks.tasks.messages import send_poll
from ryla_tasks.tasks.runtime import Runtime, runtime_of

__all__ = ["cancel_job", "cancel_orphan"]

logger = logging.getLogger(__name__)


def cancel_job(app: Celery, job_id: str) -> None:
    """Tell the cloud to cancel a job, and have it polled at once: what the poll sees decides its end.

    Raises `TransientError` where the cloud could not be told; the sweeper sees to it that it is tried again.
    """
    runtime = runtime_of(app)
    record, _now = runtime.store.load(job_id)
    if record.cancel and record.state in POLLED and record.remote_id:
        _cancel(runtime, record.target, record.remote_id)
    wake_s, target = runtime.store.cancel_sent(job_id)
    send_poll(app, target, wake_s)


def cancel_orphan(app: Celery, orphan: str) -> None:
    """Tell the cloud to cancel a remote job (`TARGET REMOTE_ID`) whose job has gone on without it."""
    runtime = runtime_of(app)
    target, remote_id = orphan.rsplit(" ", 1)
    _cancel(runtime, target, remote_id)
    runtime.store.orphan_done(target, remote_id)


def _cancel(runtime: Runtime, target: str, remote_id: str) -> None:
    provider, endpoint_id = runtime.provider(target)
    try:
        answer = provider.cancel(endpoint_id, remote_id)
    except (RemoteJobNotFound, RequestRejected) as error:
        # It has ended, or never was: the next poll says which.
        logger.info("cancel.nothing target=%s remote=%s error=%s", target, remote_id, type(error).__name__)
    else:
        logger.info("cancel.sent target=%s remote=%s status=%s", target, remote_id, answer.status)
