"""How lines are written: one JSON object a line, or text for a console."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from typing import Any

from celery._state import get_current_task
from celery.utils.log import ColorFormatter
from pythonjsonlogger.json import JsonFormatter

from ryla_tasks.jobs.redact import redacted
from ryla_tasks.logs.log import JOB_FIELDS, fields_of

__all__ = ["ConsoleLines", "JsonLines"]

#: What becomes of signs that would end a line, or move the cursor of a terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_CONTROLS |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029"}

#: In front of the lines of a traceback, so that none of them can be taken for a line of the log.
_INDENT = "    | "

#: How much of a traceback is shown: its end tells most.
_TRACEBACK = 8_000


class JsonLines(JsonFormatter):
    """A JSON object a line: time (UTC), level, logger, event, message, the fields, and of errors the traceback."""

    def __init__(self) -> None:
        super().__init__(["message"], json_ensure_ascii=True)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        moment = datetime.datetime.fromtimestamp(record.created, tz=datetime.UTC)
        log_data |= {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "thread": record.threadName,
        }
        event = getattr(record, "event", None)
        log_data |= _of_celery(record)
        super().add_fields(log_data, record, message_dict)
        # The fields stand beside it.
        log_data["message"] = str(event) if event else redacted(str(log_data["message"]))
        # Celery's own context holds arguments and results.
        log_data.pop("data", None)
        if "exc_info" in log_data:
            log_data["exc_info"] = _without_secrets(str(log_data["exc_info"]))


class ConsoleLines(ColorFormatter):
    """A line of text for each line of the log; a traceback is put after it, and set in."""

    def format(self, record: logging.LogRecord) -> str:
        # The record is shared with other handlers.
        told = logging.makeLogRecord(vars(record))
        message = record.getMessage() if hasattr(record, "event") else redacted(record.getMessage())
        told.msg, told.args = message.translate(_CONTROLS), None
        told.exc_text = None
        # Celery's format for task lines names these.
        task = get_current_task()
        vars(told).setdefault("task_id", str(task.request.id).translate(_CONTROLS) if task else "-")
        vars(told).setdefault("task_name", task.name if task else "-")
        line: str = super().format(told)
        return line

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        lines = _without_secrets(str(super().formatException(ei))).splitlines()
        return "\n".join(_INDENT + line.translate(_CONTROLS) for line in lines)


def _of_celery(record: logging.LogRecord) -> Mapping[str, Any]:
    """What is known of the job that one of Celery's own lines is about."""
    data = getattr(record, "data", None)
    if not isinstance(data, Mapping) or "id" not in data or any(hasattr(record, name) for name in JOB_FIELDS):
        return {}
    found = {"task": data.get("name"), "job": data["id"]}
    task: Any = get_current_task()
    request = getattr(task, "request", None)
    if request is None or request.id != data["id"]:
        return found
    claim = request.get("ryla_claim")
    return found | (fields_of(claim.record) if claim is not None else {})


def _without_secrets(traceback: str) -> str:
    """A traceback as it may be shown: redacted by the line, so that its length does not cut it off."""
    return "\n".join(redacted(line) for line in traceback[-_TRACEBACK:].splitlines())
