"""The client for pages, which both frameworks serve."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

__all__ = ["cache_control", "script"]

_YEAR_S = 365 * 86_400


@cache
def script() -> tuple[bytes, str]:
    """ryla.js, and the digest that its address has as `?v=`."""
    data = (files(__package__) / "static" / "ryla.js").read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


def cache_control(version: str | None) -> str:
    """For how long it may be kept: for ever at the address with its digest, where a new script has a new one."""
    return f"public, max-age={_YEAR_S}, immutable" if version == script()[1] else "public, no-cache"
