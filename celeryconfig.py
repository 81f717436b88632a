"""Celery's configuration in this deployment: only what a deployment decides.

All else is in `ryla_tasks/celery_defaults.py`, made from the settings (RYLA_REDIS_URL and so on), with its reasons.
`workers/celery_worker.py` puts this file on top of it, name by name: a name that stands here replaces the one there,
dictionaries included, so take `broker_transport_options` over whole or not at all. Names and meanings:
https://docs.celeryq.dev/en/stable/userguide/configuration.html

Concurrency, time-outs, TLS and Sentinel are settings, not lines here: web processes need them too.
"""

# How long steps under way may go on when a second SIGTERM or a SIGQUIT asks for an end now. It must stay under what is
# granted before SIGKILL: Compose's stop_grace_period, systemd's TimeoutStopSec, terminationGracePeriodSeconds.
# A step takes seconds; one that is cut off loses nothing, its job is taken up by another worker.
worker_soft_shutdown_timeout = 20.0

# Modules with tasks of your own that these workers shall run as well, for instance ServerlessTasks for an endpoint.
imports: tuple[str, ...] = ()
