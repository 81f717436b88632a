"""Celery apps that ryla_tasks cannot live in."""

from __future__ import annotations

from celery import Celery

with_orm = Celery("with_orm", set_as_current=False, backend="django-db")
without = Celery("without", set_as_current=False)
