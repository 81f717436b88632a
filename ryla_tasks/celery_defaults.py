"""Celery's configuration for ryla_tasks, made from the settings. Each line that is not Celery's default says why.

Loaded when the app is first used, so that importing the package needs no settings. A deployment
refines it in its own `celeryconfig.py`.
"""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

from kombu import Exchange, Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from ryla_tasks.logs.setup import CONSOLE
from ryla_tasks.settings import Settings, get_settings
from ryla_tasks.tasks.routes import Part, queue_names, queue_of, route

__all__ = ["celery_defaults", "queues"]

_VERIFY = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}

#: Results and chord counters must outlive the longest deadline, or a chord of trainings would never fire.
_RESULTS_KEPT_S = 31 * 86_400


def queues(prefix: str) -> tuple[Queue, ...]:
    """Jobs (submits and deliveries), polls, and cancels: apart, so that workers can be given to each."""
    return tuple(Queue(name, Exchange(name), routing_key=name) for name in queue_names(prefix))


def celery_defaults(settings: Settings) -> dict[str, Any]:
    """The configuration of an app that runs ryla_tasks."""
    return {
        **_redis(settings),
        # Pickle would let whoever reaches Redis run code in the workers.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "enable_utc": True,
        "timezone": "UTC",
        # --- messages ---
        "task_queues": queues(settings.key_prefix),
        "task_default_queue": queue_of(Part.JOBS, settings.key_prefix),
        "task_routes": [route],
        # A message is acknowledged when its step is done; one that comes twice changes nothing (the store fences).
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A worker takes no more than it has slots for: what it holds would wait while others are idle.
        "worker_prefetch_multiplier": 1,
        # Enqueueing in a web request waits about two seconds for Redis at the most; the sweeper sends what is left.
        "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1},
        # --- results ---
        "result_expires": _RESULTS_KEPT_S,
        "result_chord_expires": _RESULTS_KEPT_S,
        # A completed job must not become a failure because Redis was away when its result was written.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 60,
        # STARTED would be written over an end by a late message, and over PROGRESS by every step.
        "task_track_started": False,
        # --- events, for Flower ---
        "worker_send_task_events": True,
        # Off, as in Celery: it would make a label per child process in Flower's metrics.
        "task_send_sent_event": False,
        # --- logs ---
        "worker_log_format": CONSOLE,
        "worker_task_log_format": CONSOLE,
        # Prints are a library's doing; they are no warnings, as which Celery would log them.
        "worker_redirect_stdouts_level": "INFO",
        # --- worker ---
        "worker_pool": "threads",  # jobs wait for the network, not for the CPU; and one process sweeps once
        "worker_concurrency": settings.worker_concurrency,
        # Redis may go away while a worker holds a message; Celery 5.7.0's own consumer would end the worker.
        "worker_consumer": "ryla_tasks.tasks.consumer:Consumer",
        # Redis may come up after us, and may go away for as long as it likes.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A lost connection does not end running steps: their jobs are fenced.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # On SIGQUIT steps under way get this long to end. A worker without any gives its messages back at once.
        "worker_soft_shutdown_timeout": 30.0,
    }


def _redis(settings: Settings) -> dict[str, Any]:
    """Broker, result backend and how to reach them: time-outs everywhere, or a dead link hangs a web request."""
    seconds = settings.redis_timeout_s
    broker_options: dict[str, Any] = {
        # How soon another worker gets an unacknowledged message. Must be the same in all apps on this database: the
        # shortest wins. Longer than the longest countdown (30 s) and the longest step.
        "visibility_timeout": settings.visibility_timeout_s,
        # kombu would look only each 100 s.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": max(seconds, 5.0),
        "socket_connect_timeout": seconds,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    result_options: dict[str, Any] = {}
    config: dict[str, Any] = {
        "broker_url": settings.broker_url,
        "result_backend": settings.redis_url,
        "broker_transport_options": broker_options,
        "result_backend_transport_options": result_options,
        "redis_socket_timeout": seconds,
        "redis_socket_connect_timeout": seconds,
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": True,
        "redis_backend_health_check_interval": 25,
        "broker_connection_timeout": seconds,
    }
    if settings.sentinel_master:
        sentinel = {"master_name": settings.sentinel_master, "sentinel_kwargs": _sentinel(seconds)}
        broker_options |= sentinel
        result_options |= sentinel
    tls = _tls(settings)
    if settings.broker_url.startswith("rediss://"):
        config["broker_use_ssl"] = tls
    if settings.redis_url.startswith("rediss://"):
        config["redis_backend_use_ssl"] = tls
    return config


def _sentinel(seconds: float) -> dict[str, Any]:
    """How a Sentinel is asked: once. The next one is, where it does not answer; by default a dead one would cost some
    seconds for each new connection, and one that hangs would hang us, too."""
    once = Retry(NoBackoff(), 0)
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": once}


def _tls(settings: Settings) -> dict[str, Any]:
    tls: dict[str, Any] = {"ssl_cert_reqs": _VERIFY[settings.redis_tls_verify]}
    if settings.redis_tls_ca is not None:
        tls["ssl_ca_certs"] = str(settings.redis_tls_ca)
    return tls


@cache
def _loaded() -> dict[str, Any]:
    """Celery looks a configuration up anew for each message; the settings are read once."""
    return celery_defaults(get_settings())


def __getattr__(name: str) -> Any:
    """The names that Celery looks for in a configuration module."""
    if name.startswith("_") or name not in _loaded():
        raise AttributeError(name)
    return _loaded()[name]
