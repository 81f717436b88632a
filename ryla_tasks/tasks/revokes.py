"""Celery's revokes of jobs: workers keep them in memory and see them only in messages; the store keeps cancels."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.worker import state as worker_state

from ryla_tasks.jobs.record import CancelReason
from ryla_tasks.tasks.messages import send_cancel, send_deliveries
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["RevokeWatch", "message_dropped"]


class RevokeWatch:
    """Turns the revokes that this worker process has been told of into cancels."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._not_ours: set[str] = set()

    def look(self) -> None:
        """Cancel the jobs that have been revoked since the last look. Raises `StoreError`."""
        revoked = set(worker_state.revoked)
        for job_id in revoked - self._not_ours:
            if not self._cancel(job_id):
                self._not_ours.add(job_id)
        self._not_ours &= revoked

    def _cancel(self, job_id: str) -> bool:
        word, deliveries = runtime_of(self._app).store.cancel(job_id, CancelReason.REVOKED)
        send_deliveries(self._app, deliveries)
        if word == "remote":
            send_cancel(self._app, job_id=job_id)
        return _taken_over(job_id, word)


def message_dropped(app: Celery, request: Any, *, expired: bool = False) -> None:
    """Celery has dropped a message of a revoked job, and told everyone: a job that has ended owes nothing more.

    A message that had `expired` says nothing of its job, which another copy of it may have started; Celery has put it
    among the revoked.
    """
    if expired:
        worker_state.revoked.discard(request.id)
        return
    store = runtime_of(app).store
    word, _deliveries = store.cancel(request.id, CancelReason.REVOKED)
    if word in ("ended", "over"):
        store.delivered(request.id)
    elif word == "remote":
        send_cancel(app, job_id=request.id)
    _taken_over(request.id, word)


def _taken_over(job_id: str, word: str) -> bool:
    """The store has the revoke now. Celery must forget it, or it would drop the message that delivers the job's end."""
    if word == "gone":
        return False
    worker_state.revoked.discard(job_id)
    return True
