"""What one scrape looks at."""

from __future__ import annotations

from collections.abc import Callable

from ryla_tasks.metrics.definition import View
from ryla_tasks.metrics.queues import Queues
from ryla_tasks.store.metrics import MetricStore
from ryla_tasks.tasks.routes import queue_names
from ryla_tasks.tasks.runtime import Runtime

__all__ = ["looking_at"]


def looking_at(runtime: Runtime) -> Callable[[], View]:
    """A function that looks at the fleet: one round trip to the store and one to the broker, each on a connection that
    is kept. Raises `StoreError`."""
    settings = runtime.settings
    store = MetricStore(runtime.client, prefix=settings.key_prefix)
    queues = Queues(runtime.app, queue_names(settings.key_prefix))
    targets = [target.id for endpoint in settings.endpoints.values() for target in endpoint.targets]

    def look() -> View:
        budgets = runtime.budgets
        fleet = store.snapshot(targets, settings.endpoints, offset_s=budgets.offset_s())
        return View(fleet, queues.messages(), budgets.endpoints)

    return look
