"""When a job may start: Celery's `countdown`, `eta` and `expires`, and its limits, which no job can have."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from ryla_tasks.errors import InvalidJob

if TYPE_CHECKING:
    from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["take_times"]

_MOST_S = 10 * 365 * 86_400.0


def take_times(task: ServerlessTask, options: dict[str, Any]) -> tuple[float, float | None]:
    """Take Celery's times out of the options: the delay before the start, and the start-by time, both in seconds.

    What the options leave out, the task's class may say. Raises `InvalidJob` naming the field.
    """
    for name in ("time_limit", "soft_time_limit"):
        given = options.pop(name, None)
        if given is not None or getattr(task, name, None) is not None:
            raise InvalidJob(f"{name}: no process of ours runs as long as the job; use deadline_s", field=name)
    eta, countdown, expires = options.pop("eta", None), options.pop("countdown", None), options.pop("expires", None)
    if eta is not None:
        delay = _until(eta, "eta")
    else:
        delay = 0.0 if countdown is None else _number(countdown, "countdown", "a number of seconds")
    if expires is None:
        expires = task.expires
    start_by = None if expires is None else _until(expires, "expires")
    if start_by is not None and start_by <= 0:
        raise InvalidJob("expires: is over already", field="expires")
    return max(0.0, delay), start_by


def _until(moment: Any, field: str) -> float:
    """The seconds until a moment: a datetime, one as ISO text, or a number of seconds from now."""
    if isinstance(moment, str):
        try:
            moment = datetime.datetime.fromisoformat(moment)
        except ValueError:
            raise InvalidJob(f"{field}: {moment[:40]!r} is not a time in ISO format", field=field) from None
    if isinstance(moment, datetime.datetime):
        if moment.tzinfo is None:
            raise InvalidJob(f"{field}: must be an aware datetime, for instance in UTC", field=field)
        moment = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
    return _number(moment, field, "an aware datetime, or a number of seconds")


def _number(seconds: Any, field: str, what: str) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidJob(f"{field}: must be {what}, not {type(seconds).__name__}", field=field)
    if not seconds <= _MOST_S:  # nor is NaN
        raise InvalidJob(f"{field}: must be {what}, at most ten years ahead", field=field)
    return float(max(-_MOST_S, seconds))
