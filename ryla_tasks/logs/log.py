"""A logger whose lines are events with fields; a line about a job names the job, whose it is, and where it is."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.redact import redacted

__all__ = ["JOB_FIELDS", "Log", "about", "fields_of"]

#: What each line about a job says, as far as it is known.
JOB_FIELDS = ("job", "user", "endpoint", "target", "attempt", "remote")

#: Where a text is shown as it is; any other is quoted as JSON, so that it ends where it seems to end.
_PLAIN = re.compile(r"[\w.:/@+%,-]+", re.ASCII).fullmatch

_about: ContextVar[Mapping[str, Any]] = ContextVar("ryla_job")
_NOTHING: Mapping[str, Any] = {}


def fields_of(record: JobRecord) -> dict[str, Any]:
    """The fields of a job; those that it does not have yet are left out."""
    values = (
        record.job_id, record.spec.user_id, record.spec.endpoint, record.target, record.attempt, record.remote_id,
    )  # fmt: skip
    return {name: value for name, value in zip(JOB_FIELDS, values, strict=True) if value}


@contextmanager
def about(record: JobRecord) -> Iterator[None]:
    """Within, lines that name no job, or this one by its id alone, have all of its fields."""
    token = _about.set(fields_of(record))
    try:
        yield
    finally:
        _about.reset(token)


class _Fields:
    """The fields of a line as text, made when somebody writes the line."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __str__(self) -> str:
        return " ".join(f"{name}={_shown(value)}" for name, value in self._values.items())


class Log:
    """Writes the events of one module to the standard library's logger of that name.

    Each method takes the event's name, the job that it is about (a record, or its id where there is no more), and the
    fields. The values of a line are redacted (URLs cut to their host, keys and tokens left out) and shown so that none
    of them can look like another field or another line. Handlers find the fields as attributes of the log record, with
    the name as `event`.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, job: JobRecord | str = "", **fields: Any) -> None:
        self._log(logging.DEBUG, event, job, fields)

    def info(self, event: str, job: JobRecord | str = "", **fields: Any) -> None:
        self._log(logging.INFO, event, job, fields)

    def warning(self, event: str, job: JobRecord | str = "", **fields: Any) -> None:
        self._log(logging.WARNING, event, job, fields)

    def error(self, event: str, job: JobRecord | str = "", *, exc_info: Any = None, **fields: Any) -> None:
        self._log(logging.ERROR, event, job, fields, exc_info)

    def exception(self, event: str, job: JobRecord | str = "", **fields: Any) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, event, job, fields, exc_info=True)

    def _log(self, level: int, event: str, job: JobRecord | str, fields: dict[str, Any], exc_info: Any = None) -> None:
        if not self._logger.isEnabledFor(level):
            return
        values = {**_job_fields(job), **{name: _clean(value) for name, value in fields.items() if value is not None}}
        # The names are ours, so none of them is one that a LogRecord has already.
        self._logger.log(
            level, f"{event} %s" if values else event, *([_Fields(values)] if values else []),
            exc_info=exc_info, extra={"event": event, **values}, stacklevel=3,
        )  # fmt: skip


def _job_fields(job: JobRecord | str) -> Mapping[str, Any]:
    if isinstance(job, JobRecord):
        return fields_of(job)
    bound = _about.get(_NOTHING)
    return bound if not job or job == bound.get("job") else {"job": job}


def _clean(value: Any) -> Any:
    """A value that a line may show: numbers as they are, all else as redacted text."""
    if isinstance(value, (bool, int, float)):
        return round(value, 4) if isinstance(value, float) else value
    if isinstance(value, Mapping):
        return {str(name): _clean(item) for name, item in value.items()}
    return redacted(str(value))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = json.dumps(value) if isinstance(value, Mapping) else str(value)
    return text if _PLAIN(text) or isinstance(value, Mapping) else json.dumps(text)
