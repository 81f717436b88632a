"""Which queue our messages go to: jobs, polls and cancels apart, so that workers can be given to each."""

from __future__ import annotations

from typing import Any

from celery import Celery

__all__ = ["CANCEL_TASK", "JOBS", "LINE_TASK", "MAINTENANCE", "POLLS", "POLL_TASK", "add_routes", "route"]

JOBS, POLLS, MAINTENANCE = "ryla.jobs", "ryla.polls", "ryla.maintenance"

#: The names of the tasks that are messages of the engine.
POLL_TASK, CANCEL_TASK, ADOPT_TASK = "ryla.poll", "ryla.cancel_remote", "ryla.adopt_remote"
LINE_TASK = "ryla.submit_line"

_BY_NAME: dict[str, dict[str, Any]] = {
    POLL_TASK: {"queue": POLLS, "priority": 0},
    LINE_TASK: {"queue": JOBS, "priority": 0},
    CANCEL_TASK: {"queue": MAINTENANCE},
    ADOPT_TASK: {"queue": MAINTENANCE},
    "ryla.generate_image": {"queue": JOBS},
    "ryla.run_endpoint": {"queue": JOBS},
}


def route(name: str, *_args: Any, task: Any = None, **_kwargs: Any) -> dict[str, Any] | None:
    """A router for Celery's `task_routes`: ours by name, tasks based on `ServerlessTask` by what they are."""
    found = _BY_NAME.get(name)
    if found is None and getattr(task, "serverless", False):
        return {"queue": JOBS}
    return dict(found) if found else None


def add_routes(app: Celery) -> None:
    """Add our routes to an app's, behind its own, so that it may route our tasks elsewhere."""
    own = app.conf.task_routes
    routes = list(own) if isinstance(own, (list, tuple)) else [own] if own else []
    if route not in routes:
        app.conf.task_routes = [*routes, route]
        app.amqp.flush_routes()
        app.amqp.__dict__.pop("router", None)  # a cached property; it holds the routes of before
