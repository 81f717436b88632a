"""The routes of views.py: `path("ryla/", include("ryla_tasks.contrib.django.urls"))`."""

from __future__ import annotations

from django.urls import path

from ryla_tasks.contrib.django import views

__all__ = ["app_name", "urlpatterns"]

app_name = "ryla"

urlpatterns = [
    path("jobs", views.jobs, name="jobs"),
    path("jobs/<str:job_id>", views.show, name="job"),
    path("jobs/<str:job_id>/cancel", views.cancel, name="cancel"),
    path("jobs/<str:job_id>/events", views.events, name="events"),
    path("jobs/<str:job_id>/files/<int:number>", views.job_file, name="file"),
    path("uploads", views.upload, name="uploads"),
    path("webhooks/<str:token>", views.webhook, name="webhook"),
    path("shared/<path:key>", views.shared, name="shared"),
    path("ryla.js", views.script, name="script"),
]
