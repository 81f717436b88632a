"""Jobs in Django's admin: a list with filters, and a page for each. They are read from Redis; nothing is in a table.

The permissions are `ryla.view_job`, `ryla.cancel_job` and `ryla.retry_job`. What staff did stands in the admin's log.
Prompts are not shown: they are no part of a job's record.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from ryla_tasks.contrib.django.answers import error_answer, events_answer, file_answer
from ryla_tasks.contrib.django.job_list import moment, read_page, row_of, user_names
from ryla_tasks.contrib.django.models import Job as JobModel
from ryla_tasks.contrib.django.views import load_document, script_answer
from ryla_tasks.contrib.web import find_file
from ryla_tasks.errors import JobNotFound, RylaError, StoreError
from ryla_tasks.job import Job

__all__ = ["JobAdmin"]

#: What staff may do to jobs: the permission, the method, and what is said of it afterwards.
_ACTIONS = {
    "cancel": ("ryla.cancel_job", "Asked to stop"),
    "retry": ("ryla.retry_job", "Tried again"),
}


if TYPE_CHECKING:
    _Admin = admin.ModelAdmin[JobModel]
else:
    _Admin = admin.ModelAdmin


@admin.register(JobModel)
class JobAdmin(_Admin):
    """The pages. They take the place of Django's own for the model, which has no rows."""

    def get_urls(self) -> list[URLPattern]:
        """The list, a page for each job, and what its script asks for; there is nothing to add, change or delete."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="ryla_job_changelist"),
            path("live/ryla.js", wrap(self._script_view), name="ryla_job_script"),
            path("live/jobs/<str:object_id>", wrap(self._document_view), name="ryla_job_document"),
            path("live/jobs/<str:object_id>/events", wrap(self._events_view), name="ryla_job_events"),
            path("<str:object_id>/change/", wrap(self.change_view), name="ryla_job_change"),
            path("<str:object_id>/files/<int:number>", wrap(self._file_view), name="ryla_job_file"),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django passes it
        """Jobs are made by the site."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django passes it
        """A job is what it is."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django passes it
        """It goes by itself, after its retention."""
        return False

    # --- pages ---

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list; a POST does something to the jobs that are marked in it."""
        self._admit(request)
        if request.method == "POST":
            self._act(request, request.POST.getlist("job")[:100])
            return HttpResponseRedirect(request.get_full_path())
        try:
            page, problem = read_page(request.GET.dict()), ""
        except StoreError:
            page, problem = None, _("Redis cannot be reached right now.")
        context = {
            **self._context(request), "title": _("Jobs"), "page": page, "problem": problem, **(extra_context or {}),
        }  # fmt: skip
        return TemplateResponse(request, "ryla/admin/job_list.html", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",  # noqa: ARG002 - Django passes it
        extra_context: Any = None,
    ) -> HttpResponse:
        """One job, with what happened to it; a POST does something to it."""
        self._admit(request)
        if request.method == "POST":
            self._act(request, [object_id])
            return HttpResponseRedirect(request.get_full_path())
        try:
            context = {**self._context(request), "title": _("Job"), **_details(object_id), **(extra_context or {})}
        except JobNotFound as error:
            raise Http404(_("There is no such job.")) from error
        except StoreError:
            context = {**self._context(request), "title": _("Job"), "problem": _("Redis cannot be reached right now.")}
        return TemplateResponse(request, "ryla/admin/job.html", context)

    # --- for the pages' script ---

    def _document_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        self._admit(request)
        try:
            return JsonResponse(load_document(Job(object_id), _file_url))
        except RylaError as error:
            return error_answer(error)

    def _events_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        self._admit(request)
        try:
            return events_answer(request, Job.get(object_id))
        except RylaError as error:
            return error_answer(error)

    def _file_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponseBase:
        self._admit(request)
        try:
            return file_answer(request, find_file(Job.get(object_id), number))
        except RylaError as error:
            return error_answer(error)

    def _script_view(self, request: HttpRequest) -> HttpResponseBase:
        return script_answer(request)

    # --- what they share ---

    def _admit(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _context(self, request: HttpRequest) -> dict[str, Any]:
        live = reverse("admin:ryla_job_changelist", current_app=self.admin_site.name) + "live"
        actions = [name for name in _ACTIONS if _may(request, name)]
        return {**self.admin_site.each_context(request), "opts": self.opts, "live": live, "actions": actions}

    def _act(self, request: HttpRequest, job_ids: list[str]) -> None:
        """Do to jobs what the form says."""
        name = request.POST.get("action", "")
        if name not in _ACTIONS or not _may(request, name):
            raise PermissionDenied
        words, done = _ACTIONS[name][1], 0
        for job_id in job_ids:
            try:
                did = getattr(Job.get(job_id), name)()
            except RylaError as error:
                messages.warning(request, f"{job_id}: {error}")
                continue
            if did:
                done += 1
                self.log_change(request, JobModel(id=job_id), f"{words}: {did.id}" if isinstance(did, Job) else words)
            else:
                messages.warning(request, _("%s: it is too late, the job is over.") % job_id)
        if done:
            messages.success(request, f"{_(words)}: {done}.")


def _may(request: HttpRequest, action: str) -> bool:
    return bool(request.user.has_perm(_ACTIONS[action][0]))  # type: ignore[union-attr]  # the admin's users have it


def _details(job_id: str) -> dict[str, Any]:
    """What the page of a job shows. Raises `JobNotFound`, `StoreUnavailable`."""
    job, now = Job.get(job_id), time.time()
    record = job.record
    spec, error, result = record.spec, job.error, (record.ending or {}).get("result") or {}
    names = user_names([spec.user_id])
    return {
        "job": {**row_of(record, now, names), "cost_usd": job.cost},
        "about": [
            (_("Kind"), spec.kind),
            (_("Target"), record.target),
            (_("Remote job"), record.remote_id),
            (_("Attempt"), f"{record.attempt} ({record.retries} of {spec.max_retries} retries)"),
            (_("Priority"), str(spec.priority)),
            (_("Tags"), ", ".join(spec.tags)),
            (_("Submitted"), moment(record.submitted)),
            (_("Ended"), moment(record.ended)),
            (_("Seed"), result.get("seed", spec.seed)),
            (_("Most it may cost"), spec.max_cost_usd and f"${spec.max_cost_usd:g}"),
            (_("Same job as"), record.alias_of),
        ],
        "error": error,
        "code": error and error.info.get("code", error.code),
        "events": [{"at": moment(event.at), "type": event.type, **event.data} for event in job.events()],
        "files": [
            {"url": _file_url(job_id, place), "name": one.filename, "bytes": one.bytes, "type": one.content_type}
            for place, one in enumerate(job.artifacts)
        ],
        "cells": job.cells,
    }


def _file_url(job_id: str, number: int) -> str:
    return reverse("admin:ryla_job_file", args=[job_id, number])
