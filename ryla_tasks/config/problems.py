"""Turns what pydantic says of wrong settings into one `ConfigurationError` that names the variables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ryla_tasks.config.sources import variable_for
from ryla_tasks.errors import ConfigurationError

__all__ = ["configuration_error"]

# Values of these may hold a password or a key, and an endpoint id may turn out to be a key in the wrong place.
_NEVER_SHOWN = frozenset(
    {"runpod_api_key", "accounts", "redis_url", "broker_url", "artifacts", "endpoint_id", "alert_urls"}
)


def configuration_error(
    error: ValidationError, fields: Sequence[str], source_of: Callable[[str], str]
) -> ConfigurationError:
    """One line for each wrong setting: the variable, what is wrong, what is allowed, and where the value came from.

    `source_of` tells the source of a top-level field. Values that may be secret are not shown.
    """
    # A default that could not be worked out is the consequence of another problem, which is listed itself.
    details = [item for item in error.errors(include_url=False) if item["type"] != "default_factory_not_called"]
    problems = [(_variable(item), _sentence(item, fields, source_of)) for item in details]
    lines = [sentence for _, sentence in problems]
    text = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} settings are wrong:", *lines])
    return ConfigurationError(text, setting=problems[0][0])


def _variable(item: ErrorDetails) -> str:
    return variable_for(*item["loc"]) if item["loc"] else ""


def _sentence(item: ErrorDetails, fields: Sequence[str], source_of: Callable[[str], str]) -> str:
    loc = item["loc"]
    if not loc:
        return _what(item)
    top = str(loc[0])
    inner = _path(loc[2:] if top in ("endpoints", "accounts") else loc[1:])
    source = source_of(top)
    origin = f" ({source})" if source not in ("", "environment") else ""
    if item["type"] == "extra_forbidden" and not inner:
        close = difflib.get_close_matches(top, fields, n=1)
        spelled = str if source == "argument" else str.upper
        hint = f"; did you mean {spelled(close[0])}?" if close else ""
        return f"{spelled(top)}{origin}: there is no such setting{hint}"
    return f"{_variable(item)}{origin}: {inner + ' ' if inner else ''}{_what(item)}{_shown(item)}"


def _path(parts: Sequence[str | int]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _what(item: ErrorDetails) -> str:
    if item["type"] == "value_error":
        context: Mapping[str, Any] = item.get("ctx", {})
        return str(context.get("error", item["msg"]))
    if item["type"] == "missing":
        return "is missing"
    if item["type"] == "extra_forbidden":
        return "is no field here"
    return re.sub(r"^\w+ should", "should", item["msg"])


def _shown(item: ErrorDetails) -> str:
    value = item["input"]
    secret = _NEVER_SHOWN.intersection(map(str, item["loc"]))
    if secret or item["type"] in ("value_error", "missing", "extra_forbidden"):
        return ""
    return f"; it is {value!r}" if isinstance(value, str | int | float) and len(str(value)) <= 60 else ""
