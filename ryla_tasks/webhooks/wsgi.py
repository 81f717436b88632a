"""A WSGI app for webhook calls, to mount under a path of a web app or to run alone.

    gunicorn ryla_tasks.webhooks.wsgi:app

`RYLA_WEBHOOK_URL` is the public address that leads to it; the last part of a call's path is the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from ryla_tasks.errors import StoreError
from ryla_tasks.webhooks.receive import MOST_BYTES, receive

__all__ = ["app"]

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer one call: 200 noted, 404 not ours, 405 no POST, 411 or 413 for the body's size, 503 try again."""
    status = _answer(environ)
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return [b""]


def _answer(environ: dict[str, Any]) -> HTTPStatus:
    if environ.get("REQUEST_METHOD") != "POST":
        return HTTPStatus.METHOD_NOT_ALLOWED
    length = str(environ.get("CONTENT_LENGTH") or "")
    if not length.isdigit():
        return HTTPStatus.LENGTH_REQUIRED
    if int(length) > MOST_BYTES:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    token = str(environ.get("PATH_INFO", "")).rstrip("/").rpartition("/")[2]
    try:
        return HTTPStatus(receive(token, environ["wsgi.input"].read(int(length))).value)
    except StoreError:
        return HTTPStatus.SERVICE_UNAVAILABLE
