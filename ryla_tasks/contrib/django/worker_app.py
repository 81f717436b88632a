"""The Celery app of a worker that has the Django project: `celery -A ryla_tasks.contrib.django.worker_app worker`.

DJANGO_SETTINGS_MODULE names the project. `manage.py ryla_worker` runs it with the right pool and flags.
"""

from __future__ import annotations

import django

# Before what follows is imported: the settings of jobs come from the project.
django.setup()

from ryla_tasks.celery_app import current_app  # noqa: E402
from ryla_tasks.contrib.django.conf import web_settings  # noqa: E402
from ryla_tasks.tasks.routes import queue_names  # noqa: E402

__all__ = ["app"]

web_settings()
app = current_app()

# A project's own app need not name our queues, and without -Q a worker serves those that its app knows.
app.amqp.queues.select(list(dict.fromkeys([*app.amqp.queues, *queue_names()])))
