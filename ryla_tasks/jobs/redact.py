"""Text made fit for an error, an event or a log: a GPU worker's words may hold presigned URLs and whole files."""

from __future__ import annotations

import re

__all__ = ["redacted"]

_MOST = 2_000
# A scheme is short: unbounded, each letter of a long text would be tried as the start of one.
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>\\]+", re.IGNORECASE)
_ENCODED = re.compile(r"[A-Za-z0-9+/=]{200,}")

#: API keys and tokens, by the marks that their makers give them.
_SECRET = re.compile(
    r"(?i:authorization:\s*)?(?i:bearer)\s+\S+|(?i:authorization:)\s*\S+|\b(?:rpa_|rps_|hf_|sk-|ghp_)[A-Za-z0-9_-]{8,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
)


def redacted(text: str) -> str:
    """The text without keys and tokens, URLs cut to scheme and host, base64 left out, and a great length cut off."""
    text = _SECRET.sub("[secret]", text)
    text = _ENCODED.sub("[base64]", _URL.sub(lambda match: _origin(match.group()), text))
    return text if len(text) <= _MOST else text[:_MOST] + "..."


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{authority.rpartition('@')[2]}/..."
