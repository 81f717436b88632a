"""The routes, under the extension's `url_prefix`.

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
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, current_app, jsonify, request, url_for
from werkzeug.exceptions import HTTPException, UnsupportedMediaType
from werkzeug.wrappers import Response as AnyResponse

from ryla_tasks.celery_app import current_app as celery_app
from ryla_tasks.contrib.flask import guard
from ryla_tasks.contrib.flask.answers import error_answer, file_answer, http_error_answer
from ryla_tasks.contrib.web import (
    HEADERS,
    Visitor,
    cells_document,
    find_file,
    follow,
    is_over,
    job_document,
    job_of,
    jobs_document,
    jobs_of,
    read_body,
    store_upload,
)
from ryla_tasks.contrib.web.feed import position_of
from ryla_tasks.contrib.web.files import shared_file
from ryla_tasks.contrib.web.script import cache_control
from ryla_tasks.contrib.web.script import script as page_script
from ryla_tasks.errors import InvalidJob, RylaError
from ryla_tasks.job import Job
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.webhooks import receive

if TYPE_CHECKING:
    from ryla_tasks.contrib.flask.extension import Ryla

__all__ = ["blueprint"]

blueprint = Blueprint("ryla", __name__)


def _ryla() -> Ryla:
    extension: Ryla = current_app.extensions["ryla"]
    return extension


def _visitor() -> Visitor:
    return _ryla().current_visitor


# --- before and after a view ---


@blueprint.url_value_preprocessor
def _before_anybody_reads(endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """These run before all `before_request` functions, of which CSRFProtect's reads the form."""
    view = (endpoint or "").rpartition(".")[2]
    guard.limit_body(request, view, _ryla().rules)
    if view in guard.PUBLIC:
        guard.exempt_from_csrf(view)


@blueprint.before_request
def _check_origin() -> None:
    if (request.endpoint or "").rpartition(".")[2] not in guard.PUBLIC:
        guard.check_origin(request, _ryla().origins)


@blueprint.after_request
def _keep_private(answer: Response) -> Response:
    answer.headers.setdefault("Cache-Control", "no-store")
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    return answer


@blueprint.errorhandler(RylaError)
def _on_error(error: RylaError) -> Response:
    return error_answer(error)


@blueprint.errorhandler(HTTPException)
def _on_http_error(error: HTTPException) -> AnyResponse:
    return http_error_answer(error)


# --- jobs ---


@blueprint.post("/jobs")
def submit() -> tuple[Response, int, dict[str, str]]:
    visitor, ryla = _visitor(), _ryla()
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be JSON, with Content-Type: application/json.")
    wish = read_body(request.get_data(cache=False), request.mimetype, ryla.rules)
    job = ryla.submit(wish, visitor=visitor, idempotency_key=request.headers.get("Idempotency-Key", ""))
    return jsonify(_document(job)), 202, {"Location": url_for("ryla.show", job_id=job.id)}


@blueprint.get("/jobs")
def listed() -> Response:
    return jsonify(jobs_document(jobs_of(_visitor(), request.args), time.time(), _file_url))


@blueprint.get("/jobs/<job_id>")
def show(job_id: str) -> Response:
    job = job_of(_visitor(), job_id)
    document = _document(job)
    if request.args.get("cells"):
        document["cells"] = cells_document(job.cells)
    return jsonify(document)


@blueprint.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> tuple[Response, int]:
    job = job_of(_visitor(), job_id)
    if not job.cancel():
        return jsonify({"error": {"type": "JobOver", "message": "It is too late: the job is over."}}), 409
    return jsonify(_document(job)), 202


@blueprint.get("/jobs/<job_id>/events")
def events(job_id: str) -> Response:
    job = job_of(_visitor(), job_id)
    after = position_of(request.headers.get("Last-Event-ID") or request.args.get("after"))
    if is_over(job, after):
        return Response(status=204)
    return Response(follow(job, after, threaded=request.is_multithread), headers=HEADERS)


# --- files ---


@blueprint.get("/jobs/<job_id>/files/<int:number>")
def job_file(job_id: str, number: int) -> AnyResponse:
    return file_answer(find_file(job_of(_visitor(), job_id), number))


@blueprint.post("/uploads")
def upload() -> tuple[Response, int]:
    visitor, rules = _visitor(), _ryla().rules
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("The body must be a form with a file, as multipart/form-data.")
    file = request.files.get("file")
    if file is None:
        raise InvalidJob("file: is missing from the form", field="file")
    artifact = store_upload(visitor, file.stream.read(rules.most_upload + 1), rules)
    told = {"key": artifact.key, "content_type": artifact.content_type, "bytes": artifact.bytes}
    return jsonify({"artifact": told}), 201


@blueprint.get("/shared/<path:key>")
def shared(key: str) -> AnyResponse:
    return file_answer(shared_file(key, request.args.get("expires", ""), request.args.get("signature", "")))


@blueprint.get("/ryla.js")
def script() -> Response:
    data, digest = page_script()
    answer = Response(data, mimetype="text/javascript")
    answer.set_etag(digest)
    answer.headers["Cache-Control"] = cache_control(request.args.get("v"))
    answer.make_conditional(request)
    return answer


@blueprint.url_defaults
def _versioned(endpoint: str, values: dict[str, Any]) -> None:
    """`url_for("ryla.script")` is a new address for a new script, so that it may be kept for ever."""
    if endpoint == "ryla.script":
        values.setdefault("v", page_script()[1])


# --- RunPod ---


@blueprint.post("/webhooks/<token>")
def webhook(token: str) -> Response:
    return Response(status=receive(token, request.get_data(cache=False)).value)


# --- what they share ---


def _document(job: Job) -> dict[str, Any]:
    record, now = runtime_of(celery_app()).store.load(job.id)
    return job_document(record, now, _file_url)


def _file_url(job_id: str, number: int) -> str:
    return url_for("ryla.job_file", job_id=job_id, number=number)
