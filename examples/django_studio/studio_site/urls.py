"""The studio, signing in, Ryla's routes, and the admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("studio.urls")),
    path("ryla/", include("ryla_tasks.contrib.django.urls")),
    path("admin/", admin.site.urls),
]
