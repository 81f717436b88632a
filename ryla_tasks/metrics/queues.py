"""How many messages wait in Celery's queues. The broker may be another Redis than the store, or none at all."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.transport import redis as kombu_redis

from ryla_tasks.logs import Log

__all__ = ["Queues"]

log = Log(__name__)


class Queues:
    """Counts the messages of some queues, in one round trip. Safe for use by many threads; nothing here raises.

    kombu keeps a list for each priority of a queue.
    """

    def __init__(self, app: Celery, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = names
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def messages(self) -> Mapping[str, int] | None:
        """By queue; None where the broker does not answer. Of a broker that is not Redis nothing is told."""
        with self._lock:
            try:
                return self._counted(self._channel())
            except Exception as error:  # a broker may fail in any way that its client knows
                log.warning("metrics.no_broker", error=type(error).__name__)
                self._drop()
                return None

    def _channel(self) -> Any:
        if self._connection is None:
            self._connection = self._app.connection_for_read()
            self._connection.ensure_connection(max_retries=1, timeout=self._app.conf.broker_connection_timeout)
        return self._connection.default_channel

    def _counted(self, channel: Any) -> Mapping[str, int]:
        if not isinstance(channel, kombu_redis.Channel):
            return {}
        steps: Any = channel.priority_steps
        lists = [getattr(channel, "_q_for_pri")(name, step) for name in self._names for step in steps]  # noqa: B009
        client: Any = channel.client
        with client.pipeline(transaction=False) as pipe:
            for name in lists:
                pipe.llen(name)
            lengths = pipe.execute()
        each = len(steps)
        return {name: sum(lengths[i * each : (i + 1) * each]) for i, name in enumerate(self._names)}

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        with suppress(Exception):  # it is broken as it is
            if connection is not None:
                connection.close()
