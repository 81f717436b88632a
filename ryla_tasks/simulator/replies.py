"""Reading requests and making answers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hmac import compare_digest
from typing import Any

from aiohttp import web

__all__ = ["Refusal", "authorized", "encode", "read_body", "reply"]


class Refusal(Exception):
    """The request ends here, with this status and RunPod's error body.

    `{"error": text}` is the shape in RunPod's own command-line client; other bodies of 4xx are not published.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> web.Response:
        return reply({"error": str(self)}, self.status)


def encode(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer; `data` that is bytes already is JSON."""
    body = data if isinstance(data, bytes) else encode(data)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def authorized(request: web.BaseRequest, keys: Collection[str], *, bare: bool = False) -> bool:
    """Whether the request carries one of the keys; with `bare` also without "Bearer", as workers send it."""
    header = request.headers.get("Authorization", "")
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer":
        if not bare:
            return False
        key = header
    given = key.strip().encode()
    return any(compare_digest(given, known.encode()) for known in keys)


async def read_body(request: web.BaseRequest, limit: int) -> Any:
    """The JSON of a request; `Refusal` 400 if it is larger than `limit` bytes or no JSON."""
    too_large = Refusal(400, f"request body exceeds the limit of {limit} bytes")
    if request.content_length is not None and request.content_length > limit:
        raise too_large
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    try:
        return json.loads(b"".join(parts), parse_constant=_refuse_constant)
    except ValueError as error:
        raise Refusal(400, "request body is not valid JSON") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON, whatever Python's json module says")
