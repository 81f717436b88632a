"""Keeps the engine's own messages out of the worker's log: Celery has a line for each receipt and each end."""

from __future__ import annotations

import logging

from ryla_tasks.tasks.routes import ADOPT_TASK, CANCEL_TASK, POLL_TASK

__all__ = ["hush"]


class _Hush(logging.Filter):
    """Drops what is said of our messages below WARNING. Celery puts the task's name into the arguments."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = record.args.get("name") if isinstance(record.args, dict) else None
        return name not in (POLL_TASK, CANCEL_TASK, ADOPT_TASK) or record.levelno >= logging.WARNING


_HUSH = _Hush()


def hush() -> None:
    """Quiet the loggers that Celery uses for single tasks. Safe to call twice."""
    for logger in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(logger).addFilter(_HUSH)
