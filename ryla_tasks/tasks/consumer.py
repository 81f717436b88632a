"""A Celery consumer that outlives a restart of Redis.

Celery 5.7.0 closes the connection to a lost broker twice. Where the worker then holds a message (one with a countdown,
or one under way), kombu's Redis channel tries to give it back over a connection that has no address any more, raises
`AttributeError`, and the whole worker ends: celery/worker/consumer/consumer.py, `on_connection_error_after_connected`,
and kombu/transport/redis.py, `QoS.restore_unacked`. A submit whose answer was on its way is then lost, although a GPU
is paid for it. Here that channel says what is the matter, in the terms of a lost connection, which Celery knows how to
take. What was held comes again: from the store's sweeper, and after the visibility time-out.

An app of one's own uses it with `worker_consumer = "ryla_tasks.tasks.consumer:Consumer"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.worker import consumer
from kombu import Connection
from kombu.transport import redis

__all__ = ["Consumer", "SentinelTransport", "Transport"]


class _Honest:
    """A channel that, once its connection was closed, reports a lost connection to whoever still asks for it."""

    connection: Any

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None and getattr(self.connection, "client", None) is None:
            raise ConnectionResetError("the connection to Redis was lost and closed")
        with super().conn_or_acquire(client) as acquired:  # type: ignore[misc]  # kombu's, behind this one
            yield acquired


class _Channel(_Honest, redis.Channel):
    pass


class _SentinelChannel(_Honest, redis.SentinelChannel):
    pass


class Transport(redis.Transport):
    """kombu's Redis transport with the channel from above."""

    Channel = _Channel


class SentinelTransport(redis.SentinelTransport):
    """The same for Sentinel."""

    Channel = _SentinelChannel


_OURS: dict[Any, type] = {redis.Transport: Transport, redis.SentinelTransport: SentinelTransport}


class Consumer(consumer.Consumer):
    """Celery's consumer, reading from Redis through our transport. Other brokers are left as they are."""

    def connection_for_read(self, heartbeat: float | None = None) -> Connection:
        """Open the connection that messages are read from."""
        ours = _OURS.get(self.app.connection_for_read().get_transport_cls())
        if ours is None:
            return self.ensure_connected(self.app.connection_for_read(heartbeat=heartbeat))
        path = f"{ours.__module__}:{ours.__qualname__}"
        connection = self.app.connection_for_read(heartbeat=heartbeat, transport=path)
        _keep_transport(connection, path)
        return self.ensure_connected(connection)


def _keep_transport(connection: Connection, path: str) -> None:
    """Where the broker has several addresses (Sentinels), kombu takes the transport from the scheme of the one that it
    goes over to."""
    switch = connection.switch

    def switch_address(address: str) -> None:
        switch(address)
        connection.transport_cls = path

    connection.switch = switch_address  # type: ignore[method-assign, assignment]
