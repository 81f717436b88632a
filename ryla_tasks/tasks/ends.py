"""The result backend as the task of a job sees it: what is not the job's end is not stored as one.

Celery makes a failure of whatever goes wrong in a task, also where the task has returned: a result that Redis would
not take, or a follower that the broker would not take, would turn a completed job into a failed one, with its errbacks
called and its chord broken (celery/app/trace.py, `trace_task`). A job's end is in its record; where Celery could not be
told, the job is delivered again.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.exceptions import BackendError
from kombu.exceptions import LimitExceeded, OperationalError
from redis.exceptions import RedisError

from ryla_tasks.artifacts.base import ArtifactStoreUnavailable
from ryla_tasks.errors import JobError, StoreError
from ryla_tasks.tasks.envelope import HEADER
from ryla_tasks.tasks.followers import fail_chain
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["AWAY", "CLAIM", "RESULT", "JobBackend"]

logger = logging.getLogger(__name__)

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
                self._put_off("end.put_off", task_id, exc, request)
                return
            else:
                self._complete(task_id, exc, request)
        except (*AWAY, OSError) as error:
            # Raised here it would leave the message unacknowledged in the threads pool, and its place taken for good.
            self._put_off("end.not_stored", task_id, error, request)
            return
        except Exception:
            # What follows the job cannot be told, now or later; the end itself has been stored before.
            logger.exception("end.follower_failed job=%s", task_id)
        self._owed_nothing(task_id)

    def _complete(self, task_id: str, exc: BaseException, request: Any) -> None:
        """End a completed job whose follower could not be sent: those sent before it are not to be sent again."""
        logger.error("end.follower_failed job=%s", task_id, exc_info=exc)
        self._inner.mark_as_done(task_id, request.get(RESULT), request)
        fail_chain(self._inner, request.chain or (), exc)

    def _put_off(self, what: str, task_id: str, error: BaseException, request: Any) -> None:
        """Give the claim back: the sweeper sends the end again in a few seconds."""
        logger.warning("%s job=%s error=%s", what, task_id, type(error).__name__)
        claim = request.get(CLAIM)
        if claim is None:
            return
        try:
            runtime_of(self._app).store.release(claim)
        except StoreError as away:
            logger.warning("deliver.not_released job=%s error=%s", task_id, away)

    def _owed_nothing(self, task_id: str) -> None:
        try:
            runtime_of(self._app).store.delivered(task_id)
        except StoreError as error:
            logger.warning("end.not_noted job=%s error=%s; it is told again", task_id, error)
