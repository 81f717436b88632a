"""JSON that everybody can read. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["dumps"]


def dumps(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Compact JSON. Half a surrogate pair, which Python takes for text and the JSON of Redis's Lua refuses, becomes a
    question mark: one such text in a record would stop the line of all jobs that a script looks through with it."""
    text = json.dumps(value, separators=(",", ":"), default=default)
    if "\\ud" not in text:
        return text
    whole = json.dumps(value, separators=(",", ":"), default=default, ensure_ascii=False)
    return whole.encode(errors="replace").decode()
