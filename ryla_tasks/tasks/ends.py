"""The result backend as the task of a job sees it: what is not the job's end is not stored as one.

Celery makes a failure of whatever goes wrong in a task, also where the task has returned: a result that Redis would
not take, or a follower that the broker would not take, would turn a completed job into a failed one, with its errbacks
called and its chord broken (celery/app/trace.py, `trace_task`). A job's end is in its record; where Celery could not be
told, the job is delivered again.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.exceptions import BackendError
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from ryla_tasks.artifacts.base import ArtifactStoreUnavailable
from ryla_tasks.errors import JobError, StoreError
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.logs import Log
from ryla_tasks.tasks.envelope import HEADER
from ryla_tasks.tasks.followers import fail_chain
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["AWAY", "CLAIM", "RESULT", "JobBackend"]

log = Log(__name__)

#: Where a request keeps the claim that it delivers under, and the result that it has returned.
CLAIM = "ryla_claim"
RESULT = "ryla_result"

#: Something that a job needs does not answer, or is full: worth another try.
AWAY = (ArtifactStoreUnavailable, BackendError, LimitExceeded, OperationalError, RedisError, StoreError)


class JobBackend:
    """A result backend that stores of failures only those that a job's record, or a refused message, ends with."""

    def __init__(self, app: Celery, inner: Any) -> None:
        self._app = app
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def mark_as_failure(
        self, task_id: str, exc: BaseException, *args: Any, request: Any = None, **options: Any
    ) -> None:
        """Store a job's failure and tell its chord, chain and errbacks. Never raises for a job that has a record.

        An error of another kind is not the end of a job that has a record. Where the job has its result, and a
        follower cannot be sent (its arguments do not fit, say), the result is stored, and the chain after it fails.
        """
        if request is None or not request.get(HEADER):
            self._inner.mark_as_failure(task_id, exc, *args, request=request, **options)
            return
        try:
            if isinstance(exc, JobError):
                self._inner.mark_as_failure(task_id, exc, *args, request=request, **options)
            elif request.get(RESULT) is None or isinstance(exc, (*AWAY, OSError)):
                log.warning("end.put_off", _job(task_id, request), error=type(exc).__name__)
                self._put_off(request)
                return
            else:
                self._complete(task_id, exc, request)
        except (*AWAY, OSError) as error:
            # Raised here it would leave the message unacknowledged in the threads pool, and its place taken for good.
            log.warning("end.not_stored", _job(task_id, request), error=type(error).__name__)
            self._put_off(request)
            return
        except Exception:
            # What follows the job cannot be told, now or later; the end itself has been stored before.
            log.exception("end.follower_failed", _job(task_id, request))
        self._owed_nothing(task_id, request)

    def _complete(self, task_id: str, exc: BaseException, request: Any) -> None:
        """End a completed job whose follower could not be sent: those sent before it are not to be sent again."""
        log.error("end.follower_failed", _job(task_id, request), exc_info=exc)
        self._inner.mark_as_done(task_id, request.get(RESULT), request)
        fail_chain(self._inner, request.chain or (), exc)

    def _put_off(self, request: Any) -> None:
        """Give the claim back: the sweeper sends the end again in a few seconds."""
        claim = request.get(CLAIM)
        if claim is None:
            return
        try:
            runtime_of(self._app).store.release(claim)
        except StoreError as away:
            log.warning("deliver.not_released", claim.record, error=away)

    def _owed_nothing(self, task_id: str, request: Any) -> None:
        try:
            runtime_of(self._app).store.delivered(task_id)
        except StoreError as error:
            log.warning("end.not_noted", _job(task_id, request), error=error)


def _job(task_id: str, request: Any) -> JobRecord | str:
    """The job that a request is about, for a line of the log: its record, where it has got so far as to have one."""
    claim = request.get(CLAIM)
    return task_id if claim is None else claim.record
