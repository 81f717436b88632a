"""Errors, files and event streams as Django's responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response

from ryla_tasks.contrib.web import HEADERS, afollow, follow, is_over, reply_to
from ryla_tasks.contrib.web.feed import position_of
from ryla_tasks.contrib.web.files import JobFile, SharedFile
from ryla_tasks.errors import RylaError
from ryla_tasks.job import Job

__all__ = ["error_answer", "events_answer", "file_answer"]

_CHUNK = 256 * 1024


def error_answer(error: RylaError) -> JsonResponse:
    """The answer for an error, as JSON; for views of one's own, too. Raises what is a fault of the project or its
    settings."""
    reply = reply_to(error)
    return JsonResponse(reply.body, status=reply.status, headers=reply.headers)


def events_answer(request: HttpRequest, job: Job) -> HttpResponseBase:
    """A job's progress as server-sent events, from where the browser is. The server says how: under ASGI no thread is
    held for a stream, under WSGI as many as `web_streams`."""
    after = position_of(request.headers.get("Last-Event-ID") or request.GET.get("after"))
    if is_over(job, after):
        return HttpResponse(status=204)
    # GZipMiddleware, where a project has it, would hold events back until there are many.
    request.META["HTTP_ACCEPT_ENCODING"] = ""
    if isinstance(request, ASGIRequest):
        return StreamingHttpResponse(_without_database_async(afollow(job, after)), headers=HEADERS)
    threaded = bool(request.META.get("wsgi.multithread", False))
    return StreamingHttpResponse(_without_database(follow(job, after, threaded=threaded)), headers=HEADERS)


def file_answer(request: HttpRequest, file: JobFile | SharedFile) -> HttpResponseBase:
    """A file: a redirect to where its store serves it, or the file itself, piece by piece."""
    if isinstance(file, JobFile) and file.url is not None:
        # The address expires.
        return HttpResponseRedirect(file.url, headers={"Cache-Control": "no-store"})
    headers = file.headers
    if "ETag" in headers:
        unchanged = get_conditional_response(request, etag=headers["ETag"])
        if unchanged is not None and unchanged.status_code == 304:
            unchanged.headers.setdefault("Cache-Control", headers["Cache-Control"])
            return unchanged
    content = file.open()
    pieces = _pieces_async(content) if isinstance(request, ASGIRequest) else _pieces(content)
    return StreamingHttpResponse(pieces, headers=headers)


def _pieces(content: BinaryIO) -> Iterator[bytes]:
    with content:
        while piece := content.read(_CHUNK):
            yield piece


async def _pieces_async(content: BinaryIO) -> AsyncIterator[bytes]:
    with content:
        while piece := await sync_to_async(content.read, thread_sensitive=False)(_CHUNK):
            yield piece


def _without_database(stream: Iterator[bytes]) -> Iterator[bytes]:
    """A stream lasts for minutes: the connections that looking up its user has opened must not last with it."""
    _let_go_of_databases()
    yield from stream


async def _without_database_async(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    await sync_to_async(_let_go_of_databases)()
    async for piece in stream:
        yield piece


def _let_go_of_databases() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
