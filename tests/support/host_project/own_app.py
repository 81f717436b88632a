"""The host's app as it is without ryla_tasks in it: it knows nothing of our queues."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("host", broker=os.environ["RYLA_REDIS_URL"], backend=os.environ["RYLA_REDIS_URL"])
app.conf.update(
    task_default_queue="host.default",
    task_routes={"host.routed": {"queue": "host.special"}},
    worker_pool="threads",
    broker_transport_options={"visibility_timeout": 300},
)

# Only here, so that the tasks are this app's and not those of the app that was current before.
app.set_default()

from tests.support.host_project import tasks  # noqa: E402

__all__ = ["app", "tasks"]
