"""Ryla's routes, the admin, and views of its own."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import authenticate, login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import include, path

from ryla_tasks.contrib.django import enqueue_on_commit
from tests.support.django_site.models import Picture


@login_not_required
def token(request: Any) -> HttpResponse:
    return HttpResponse(get_token(request))


@login_not_required
def sign_in(request: Any) -> HttpResponse:
    user = authenticate(request, username=request.POST["username"], password=request.POST["password"])
    assert user is not None
    login(request, user)
    return HttpResponse(status=204)


def own(request: Any) -> JsonResponse:
    """A view under ATOMIC_REQUESTS: a row and a job, or, with ?fail=1, neither."""
    job = enqueue_on_commit("ryla.run_endpoint", "echo", {"n": 1}, user_id=str(request.user.pk))
    Picture.objects.create(job_id=job.id, owner=str(request.user.pk), title="own")
    if request.GET.get("fail"):
        raise RuntimeError(job.id)
    return JsonResponse({"id": job.id})


urlpatterns = [
    path("ryla/", include("ryla_tasks.contrib.django.urls")),
    path("admin/", admin.site.urls),
    path("token", token),
    path("sign-in", sign_in),
    path("own", own),
]
