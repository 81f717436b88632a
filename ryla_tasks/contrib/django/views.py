"""The routes, under wherever a project includes urls.py.

POST jobs                   a job; 202 with its document and its address
GET  jobs?status=&kind=&limit=    mine, newest first
GET  jobs/ID?cells=1        one of them, of a sheet with its cells
POST jobs/ID/cancel         202, or 409 where it is too late
GET  jobs/ID/events         its progress as server-sent events
GET  jobs/ID/files/N        one of its files
POST uploads                an image for a job
POST webhooks/TOKEN         for RunPod, and for GPU workers
GET  shared/KEY?expires=&signature=    an artifact, for GPU workers
GET  ryla.js                the client for pages

What changes something wants Django's CSRF token (header X-CSRFToken), whether the project has the middleware or not;
whoever is not signed in gets 401 and no redirect, as these are answers for a script.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_POST, require_safe

from ryla_tasks.celery_app import current_app
from ryla_tasks.contrib.django import bodies
from ryla_tasks.contrib.django.answers import error_answer, events_answer, file_answer
from ryla_tasks.contrib.django.conf import current_visitor, web_settings
from ryla_tasks.contrib.django.enqueue import submit
from ryla_tasks.contrib.web import (
    cells_document,
    find_file,
    job_document,
    job_of,
    jobs_document,
    jobs_of,
    read_body,
    store_upload,
)
from ryla_tasks.contrib.web.documents import Links
from ryla_tasks.contrib.web.files import shared_file
from ryla_tasks.contrib.web.script import cache_control
from ryla_tasks.contrib.web.script import script as page_script
from ryla_tasks.errors import PayloadTooLarge, RylaError, StoreError
from ryla_tasks.job import Job
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.webhooks import MOST_BYTES, receive

__all__ = [
    "cancel", "events", "job_file", "jobs", "load_document", "script", "script_answer", "shared", "show", "upload",
    "webhook",
]  # fmt: skip

View = Callable[..., HttpResponseBase]


def _answered(view: View) -> View:
    """A view whose errors are JSON, whose answers nobody keeps unless it says so, and which never redirects to a page
    to sign in at. It runs outside of ATOMIC_REQUESTS: a stream lasts, and `submit` has a transaction of its own."""

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            answer = view(request, *args, **kwargs)
        except RylaError as error:
            answer = error_answer(error)
        except RequestDataTooBig:
            answer = error_answer(PayloadTooLarge("the request is too large", field="body"))
        except (BadRequest, SuspiciousOperation, MultiPartParserError) as error:
            answer = _told(400, type(error).__name__, "The request cannot be read.")
        answer.headers.setdefault("Cache-Control", "no-store")
        answer.headers.setdefault("X-Content-Type-Options", "nosniff")
        return answer

    outer: View = login_not_required(non_atomic_requests(answered))
    return outer


# --- jobs ---


@csrf_exempt  # here, so that nobody reads the body before its length is known to be allowed
@_answered
def jobs(request: HttpRequest) -> HttpResponseBase:
    if request.method in ("GET", "HEAD"):
        return _list(request)
    if request.method == "POST":
        bodies.check_length(request, bodies.most_json(web_settings().rules))
        return _submit(request)
    return HttpResponseNotAllowed(["GET", "HEAD", "POST"])


@csrf_protect
def _submit(request: HttpRequest) -> HttpResponseBase:
    visitor, rules = current_visitor(request), web_settings().rules
    if request.content_type != "application/json":
        return _told(415, "UnsupportedMediaType", "The body must be JSON, with Content-Type: application/json.")
    said = read_body(bodies.read(request, bodies.most_json(rules)), request.content_type, rules)
    job = submit(visitor, said, idempotency_key=request.headers.get("Idempotency-Key", ""))
    return JsonResponse(load_document(job), status=202, headers={"Location": reverse("ryla:job", args=[job.id])})


def _list(request: HttpRequest) -> HttpResponseBase:
    records = jobs_of(current_visitor(request), request.GET)
    return JsonResponse(jobs_document(records, time.time(), _file_url))


@require_safe
@_answered
def show(request: HttpRequest, job_id: str) -> HttpResponseBase:
    job = job_of(current_visitor(request), job_id)
    document = load_document(job)
    if request.GET.get("cells"):
        document["cells"] = cells_document(job.cells)
    return JsonResponse(document)


@require_POST
@csrf_protect
@_answered
def cancel(request: HttpRequest, job_id: str) -> HttpResponseBase:
    job = job_of(current_visitor(request), job_id)
    if not job.cancel():
        return _told(409, "JobOver", "It is too late: the job is over.")
    return JsonResponse(load_document(job), status=202)


@require_GET
@_answered
def events(request: HttpRequest, job_id: str) -> HttpResponseBase:
    return events_answer(request, job_of(current_visitor(request), job_id))


# --- files ---


@require_safe
@_answered
def job_file(request: HttpRequest, job_id: str, number: int) -> HttpResponseBase:
    return file_answer(request, find_file(job_of(current_visitor(request), job_id), number))


@require_POST
@csrf_exempt  # as above; a stranger's file is not even read to look for a token in the form
@_answered
def upload(request: HttpRequest) -> HttpResponseBase:
    bodies.check_length(request, bodies.most_upload(web_settings().rules))
    if request.content_type != "multipart/form-data":
        return _told(415, "UnsupportedMediaType", "The body must be a form with a file, as multipart/form-data.")
    current_visitor(request)
    return _upload(request)


@csrf_protect
def _upload(request: HttpRequest) -> HttpResponseBase:
    rules = web_settings().rules
    artifact = store_upload(current_visitor(request), bodies.uploaded(request, rules.most_upload), rules)
    told = {"key": artifact.key, "content_type": artifact.content_type, "bytes": artifact.bytes}
    return JsonResponse({"artifact": told}, status=201)


@require_safe
@_answered
def shared(request: HttpRequest, key: str) -> HttpResponseBase:
    expires, signature = request.GET.get("expires", ""), request.GET.get("signature", "")
    return file_answer(request, shared_file(key, expires, signature))


@require_safe
@login_not_required
def script(request: HttpRequest) -> HttpResponseBase:
    return script_answer(request)


def script_answer(request: HttpRequest) -> HttpResponseBase:
    """The client for pages. With its digest as `?v=` it may be kept for ever."""
    data, digest = page_script()
    headers = {"Content-Type": "text/javascript; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    kept = {"ETag": f'"{digest}"', "Cache-Control": cache_control(request.GET.get("v"))}
    whole = HttpResponse(data, headers={**headers, **kept})
    return get_conditional_response(request, etag=f'"{digest}"', response=whole) or whole


# --- RunPod ---


@csrf_exempt
@require_POST
@_answered
def webhook(request: HttpRequest, token: str) -> HttpResponseBase:
    try:
        return HttpResponse(status=receive(token, bodies.read(request, MOST_BYTES)).value)
    except StoreError:
        return HttpResponse(status=503)


# --- what they share ---


def load_document(job: Job, file_url: Links | None = None) -> dict[str, Any]:
    """A job as it stands now, for a page. Raises `JobNotFound`."""
    record, now = runtime_of(current_app()).store.load(job.id)
    return job_document(record, now, file_url or _file_url)


def _file_url(job_id: str, number: int) -> str:
    return reverse("ryla:file", args=[job_id, number])


def _told(status: int, kind: str, message: str) -> JsonResponse:
    return JsonResponse({"error": {"type": kind, "message": message}}, status=status)
