"""Errors and files as Flask's responses."""

from __future__ import annotations

from flask import Response, jsonify, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse
from werkzeug.wsgi import wrap_file

from ryla_tasks.contrib.web.files import JobFile, SharedFile
from ryla_tasks.contrib.web.replies import reply_to
from ryla_tasks.errors import RylaError

__all__ = ["error_answer", "file_answer", "http_error_answer"]


def error_answer(error: RylaError) -> Response:
    """The answer for an error, as JSON: a handler for an app's own routes, too
    (`app.register_error_handler(RylaError, error_answer)`). Raises what is a fault of the app or its settings."""
    reply = reply_to(error)
    answer = jsonify(reply.body)
    answer.status_code = reply.status
    answer.headers.update(reply.headers)
    return answer


def http_error_answer(error: HTTPException) -> AnyResponse:
    """The same for the errors that Flask and its other extensions raise. What has an answer of its own keeps it."""
    if isinstance(error.response, AnyResponse):
        return error.response
    answer = jsonify({"error": {"type": type(error).__name__, "message": error.description or error.name}})
    answer.status_code = error.code or 500
    kept = {"retry-after", "allow", "www-authenticate"}
    answer.headers.extend([(name, value) for name, value in error.get_headers() if name.lower() in kept])
    return answer


def file_answer(file: JobFile | SharedFile) -> AnyResponse:
    """A file: a redirect to where its store serves it, or the file itself, whole or a range of it."""
    if isinstance(file, JobFile) and file.url is not None:
        found = redirect(file.url)
        found.headers["Cache-Control"] = "no-store"  # the address expires
        return found
    answer = Response(wrap_file(request.environ, file.open()), headers=file.headers, direct_passthrough=True)
    length = answer.content_length
    return answer.make_conditional(request, accept_ranges=length is not None, complete_length=length)
