"""Jobs in a Django project: `INSTALLED_APPS += ["ryla_tasks.contrib.django"]`, and in the project's urls.py

    path("ryla/", include("ryla_tasks.contrib.django.urls"))

conf.py        settings.RYLA_WEB: who asks, what they may ask for, whose Celery app
enqueue.py     jobs that are enqueued when a transaction commits
outbox.py      jobs whose transaction has committed, and that Redis has not got
signals.py     job_accepted, job_ended
views.py       the routes under /ryla (urls.py)
answers.py     errors, files and event streams as responses
bodies.py      reading what a request brings, and no more
checks.py      what `manage.py check` says
admin.py       pages for staff
worker_app.py  the Celery app for a worker that has the project
management/    manage.py ryla, ryla_worker, ryla_outbox

docs/django.md tells how to use it. There are no tables, and nothing to migrate.
"""

from __future__ import annotations

try:
    import django  # noqa: F401 - to say what is missing
except ImportError as error:
    raise ImportError("ryla_tasks.contrib.django needs Django: pip install 'ryla-tasks[django]'") from error

from ryla_tasks.contrib.django.answers import error_answer, file_answer
from ryla_tasks.contrib.django.enqueue import enqueue_on_commit, submit
from ryla_tasks.contrib.django.outbox import Awaited
from ryla_tasks.contrib.django.signals import job_accepted, job_ended
from ryla_tasks.contrib.web import Rules, Visitor, Wish

__all__ = [
    "Awaited",
    "Rules",
    "Visitor",
    "Wish",
    "enqueue_on_commit",
    "error_answer",
    "file_answer",
    "job_accepted",
    "job_ended",
    "submit",
]
