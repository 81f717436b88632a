"""Text made fit for an error, an event or a log: a GPU worker's words may hold presigned URLs and whole files."""

from __future__ import annotations

import re

__all__ = ["redacted"]

_MOST = 2_000
# A scheme is short: unbounded, each letter of a long text would be tried as the start of one.
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>\\]+", re.IGNORECASE)
_ENCODED = re.compile(r"[A-Za-z0-9+/=]{200,}")


def redacted(text: str) -> str:
    """The text with URLs cut to scheme and host, base64 left out, and a great length cut off."""
    text = _ENCODED.sub("[base64]", _URL.sub(lambda match: _origin(match.group()), text))
    return text if len(text) <= _MOST else text[:_MOST] + "..."


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{authority.rpartition('@')[2]}/..."
