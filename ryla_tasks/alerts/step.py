"""Starts the sender of alerts beside a Celery worker, where there is somewhere to send them."""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.logs import Log
from ryla_tasks.tasks.runtime import Runtime, runtime_of

__all__ = ["AlertStep", "sender_of"]

log = Log(__name__)


def sender_of(runtime: Runtime) -> Any:
    """The sender for a process. Raises `ConfigurationError` without the extra, or for an address that is none."""
    from ryla_tasks.alerts.kinds import Severity
    from ryla_tasks.alerts.sender import LEASE_S, AlertSender, Rules, new_token
    from ryla_tasks.alerts.services import services_of
    from ryla_tasks.store.alerts import AlertStore

    settings = runtime.settings
    rules = Rules(Severity(settings.alert_severity), settings.alert_rate)
    store = AlertStore(runtime.client, prefix=settings.key_prefix, token=new_token(), lease_s=LEASE_S)
    return AlertSender(store, services_of(settings.alert_urls), rules)


class AlertStep(bootsteps.StartStopStep):
    """Runs a sender in each worker process; the lease in Redis lets one of them send."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        self._sender: Any = None
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        runtime = runtime_of(parent.app)
        if not runtime.settings.alert_urls:
            return
        try:
            self._sender = sender_of(runtime)
        except ConfigurationError as error:
            # Jobs are worth more than the news of them.
            log.error("alert.not_set_up", error=error)
            return
        self._sender.start()

    def stop(self, _parent: Any) -> None:
        if self._sender is not None:
            self._sender.stop()
