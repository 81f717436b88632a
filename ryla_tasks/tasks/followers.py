"""Jobs that follow others in a canvas, enqueued by a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from celery import Task
from celery._state import get_current_worker_task
from celery.app.task import Context
from celery.result import AsyncResult
from celery.states import PENDING

__all__ = ["fail_chain", "fail_follower", "is_follower"]


def is_follower(options: dict[str, Any]) -> bool:
    """Whether Celery itself is enqueueing, in a worker, as the next of a chain or as a link."""
    return bool(options.get("parent_id")) and get_current_worker_task() is not None


def fail_follower(task: Task[Any, Any], task_id: str, options: dict[str, Any], error: Exception) -> AsyncResult[Any]:
    """End a follower that cannot be a job with the error that says why.

    Raised in the worker, the error would become the failure of the task before it, which has done its work.
    """
    request = Context(
        id=task_id,
        task=task.name,
        args=(),
        kwargs={},
        root_id=options.get("root_id"),
        parent_id=options.get("parent_id"),
        group=options.get("group_id"),
        group_index=options.get("group_index"),
        chord=options.get("chord"),
        chain=options.get("chain"),
        errbacks=options.get("link_error") or (),
        delivery_info={},
        called_directly=False,
    )
    task.app.backend.mark_as_failure(task_id, error, request=request)
    return task.AsyncResult(task_id)


def fail_chain(backend: Any, chain: Iterable[Any], error: BaseException) -> None:
    """End the tasks of a chain that could not be sent, and tell the chord that waits for them."""
    for signature in chain:
        for task in _tasks(signature):
            options = task.get("options") or {}
            task_id = options.get("task_id")
            if task_id is None or backend.get_state(task_id) != PENDING:
                continue  # the part of a group that was sent
            request = Context(
                id=task_id,
                task=task["task"],
                args=(),
                kwargs={},
                group=options.get("group_id"),
                group_index=options.get("group_index"),
                chord=options.get("chord"),
                errbacks=options.get("link_error") or (),
                delivery_info={},
                called_directly=False,
            )
            backend.mark_as_failure(task_id, error, request=request)


def _tasks(signature: Any) -> Iterator[Any]:
    """The tasks that a signature stands for, without their links."""
    inner = signature.get("kwargs") or {}
    match signature.get("subtask_type"):
        case "chain" | "group":
            members = inner.get("tasks") or ()
        case "chord":
            header = inner.get("header") or ()
            members = [*([header] if isinstance(header, dict) else header), inner["body"]]
        case _:
            yield signature
            return
    for member in members:
        yield from _tasks(member)
