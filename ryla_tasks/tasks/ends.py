"""The result backend as the task of a job sees it: what is not the job's end is not stored as one.

Celery makes a failure of whatever goes wrong in a task, also where the task has returned: a result that Redis would
not take, or a follower that the broker would not take, would turn a completed job into a failed one, with its errbacks
called and its chord broken (celery/app/trace.py, `trace_task`). A job's end is in its record; where Celery could not be
told, the job is delivered again.
"""

from __future__ import annotations

import logging
from typing import Any

from ryla_tasks.errors import JobError
from ryla_tasks.tasks.envelope import HEADER

__all__ = ["JobBackend", "was_stored"]

logger = logging.getLogger(__name__)

_STORED = "ryla_stored"


class JobBackend:
    """A result backend that stores of failures only those that a job's record, or a refused message, ends with."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def mark_as_failure(
        self, task_id: str, exc: BaseException, *args: Any, request: Any = None, **options: Any
    ) -> None:
        """Store a job's failure and tell its chord, chain and errbacks. Never raises for a job that has a record.

        An error of another kind is not the end of a job that has a record.
        """
        if request is None or not request.get(HEADER):
            self._inner.mark_as_failure(task_id, exc, *args, request=request, **options)
            return
        if not isinstance(exc, JobError):
            logger.warning("end.put_off job=%s error=%s", task_id, type(exc).__name__)
            return
        try:
            self._inner.mark_as_failure(task_id, exc, *args, request=request, **options)
        except Exception as error:
            # Raised here it would leave the message unacknowledged in the threads pool, and its place taken for good.
            logger.warning("end.not_stored job=%s error=%s", task_id, type(error).__name__)
        else:
            setattr(request, _STORED, True)


def was_stored(request: Any) -> bool:
    """Whether the failure that a request ended with has been stored."""
    return bool(request.get(_STORED))
