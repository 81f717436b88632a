"""Messages that go to Redis together with their job's record, in one script.

Where broker and store are one Redis database, a job is accepted and its message is in the queue in the same moment, and
in one round trip. kombu makes the message as it always does; only the last step, the push, is noted down instead of
made, and the script makes it. Other brokers get their message by kombu, after the record.
"""

from __future__ import annotations

import threading
from typing import Any

import redis
from celery import Celery
from kombu import Producer
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

__all__ = ["Notebook", "Transport"]


class _Channel(kombu_redis.Channel):
    """A channel that notes what it would push, as (list, payload)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.noted: list[tuple[str, str]] = []
        super().__init__(*args, **kwargs)

    def _put(self, queue: str, message: Any, **_kwargs: Any) -> None:
        priority = self._get_message_priority(message, reverse=False)
        name: Any = getattr(self, "_q_for_pri")(queue, priority)  # noqa: B009 - the stubs leave it out
        self.noted.append((name, dumps(message)))


class Transport(kombu_redis.Transport):
    """kombu's Redis transport with the channel from above."""

    Channel = _Channel


class Notebook:
    """Writes messages for an app's broker without sending them. Safe for use by many threads."""

    def __init__(self, app: Celery, client: redis.Redis) -> None:
        self._app = app
        self._fits = _one_database(app, client)
        self._local = threading.local()

    def note(self, body: Any, publish: dict[str, Any]) -> tuple[str, str] | None:
        """The Redis list and the payload of a message; None where it has to be published by kombu.

        Raises what kombu raises where Redis cannot be reached.
        """
        if not self._fits or publish.get("exchange"):
            return None
        producer = self._producer()
        channel: Any = producer.channel
        noted: list[tuple[str, str]] = channel.noted
        noted.clear()
        producer.publish(body, **{**publish, "retry": False, "declare": None})
        return noted[0]

    def _producer(self) -> Producer:
        producer: Producer | None = getattr(self._local, "producer", None)
        if producer is None:
            path = f"{Transport.__module__}:{Transport.__qualname__}"
            connection = self._app.connection_for_write(transport=path)
            producer = Producer(connection.channel(), auto_declare=False)
            self._local.producer = producer
        return producer


def _one_database(app: Celery, client: redis.Redis) -> bool:
    """Whether the app's broker is the very database of the client, with plain queue names."""
    if (app.conf.broker_transport_options or {}).get("global_keyprefix"):
        return False
    with app.connection_for_write() as broker:
        if broker.get_transport_cls() is not kombu_redis.Transport:
            return False
        store = client.connection_pool.connection_kwargs
        theirs = (broker.hostname or "localhost", int(broker.port or 6379), str(broker.virtual_host or "0").strip("/"))
    return theirs == (store.get("host"), int(store.get("port") or 0), str(store.get("db") or 0))
