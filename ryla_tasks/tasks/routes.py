"""Which queue our messages go to: jobs, polls and cancels apart, so that workers can be given to each."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from celery import Celery

from ryla_tasks.settings import get_settings

__all__ = [
    "ADOPT_TASK",
    "CANCEL_TASK",
    "CELL_TASK",
    "LINE_TASK",
    "POLL_TASK",
    "TELL_TASK",
    "Part",
    "add_routes",
    "queue_names",
    "queue_of",
    "route",
]


class Part(StrEnum):
    """What a queue is for."""

    JOBS = "jobs"
    POLLS = "polls"
    MAINTENANCE = "maintenance"


def queue_of(part: Part, prefix: str | None = None) -> str:
    """The name of a queue: `ryla.jobs`, or with another `RYLA_KEY_PREFIX`, so that installations stay apart."""
    return f"{prefix or get_settings().key_prefix}.{part}"


def queue_names(prefix: str | None = None) -> tuple[str, ...]:
    """The names of all our queues."""
    return tuple(queue_of(part, prefix) for part in Part)


#: The names of the tasks that are messages of the engine.
POLL_TASK, CANCEL_TASK, ADOPT_TASK = "ryla.poll", "ryla.cancel_remote", "ryla.adopt_remote"
LINE_TASK, TELL_TASK = "ryla.submit_line", "ryla.tell_line"

#: The task of a sheet's cells.
CELL_TASK = "ryla.sheet_cell"

_PARTS = {
    POLL_TASK: Part.POLLS,
    LINE_TASK: Part.JOBS,
    CANCEL_TASK: Part.MAINTENANCE,
    ADOPT_TASK: Part.MAINTENANCE,
    TELL_TASK: Part.MAINTENANCE,
    CELL_TASK: Part.JOBS,
    "ryla.generate_image": Part.JOBS,
    "ryla.generate_variations": Part.JOBS,
    "ryla.make_character_sheet": Part.JOBS,
    "ryla.run_endpoint": Part.JOBS,
    "ryla.swap_face": Part.JOBS,
    "ryla.train_lora": Part.JOBS,
}


def route(name: str, *_args: Any, task: Any = None, **_kwargs: Any) -> dict[str, Any] | None:
    """A router for Celery's `task_routes`: ours by name, tasks based on `ServerlessTask` by what they are."""
    part = _PARTS.get(name) or (Part.JOBS if getattr(task, "serverless", False) else None)
    if part is None:
        return None
    found: dict[str, Any] = {"queue": queue_of(part)}
    # Messages that carry many jobs on go first.
    return {**found, "priority": 0} if name in (POLL_TASK, LINE_TASK) else found


def add_routes(app: Celery) -> None:
    """Add our routes to an app's, behind its own, so that it may route our tasks elsewhere."""
    own = app.conf.task_routes
    routes = list(own) if isinstance(own, (list, tuple)) else [own] if own else []
    if route not in routes:
        app.conf.task_routes = [*routes, route]
        app.amqp.flush_routes()
        app.amqp.__dict__.pop("router", None)  # a cached property; it holds the routes of before
