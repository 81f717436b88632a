"""The entry of a worker process of this deployment.

    celery -A workers.celery_worker worker

from the root of the repository: the app of `ryla_tasks`, refined by the `celeryconfig.py` there. The sweeper runs in
every such process. To scale out, start more of them, on as many machines as you like: they share the work by Redis,
and a job waits in none of them while its GPU works.

Have it supervised: when a worker has ended, its jobs wait in the store and go on with the next one. Any of these
restarts it:

    ryla worker --app workers.celery_worker     the supervisor that comes with the package
    restart: unless-stopped                     Docker Compose
    Restart=always                              systemd
    a Deployment                                Kubernetes

On SIGTERM it finishes the steps under way, which takes seconds, and ends. Grant it 30 seconds before SIGKILL; after a
SIGKILL nothing is lost, but what it was at waits for its lease, up to a minute.

`celery -A workers.celery_worker inspect ping`, `... flower` and so on work with the same app.
"""

from __future__ import annotations

from celery.app.defaults import DEFAULTS

import celeryconfig
from ryla_tasks import app

__all__ = ["app"]

# Kept until the app is configured, which is when something first needs it: only then are the settings read. Celery's
# own config_from_object would replace the package's configuration, and its add_defaults goes over the file's.
app.conf.update({name: value for name, value in vars(celeryconfig).items() if name in DEFAULTS})
