"""The message that goes out with its record is the very one that kombu would have sent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from ryla_tasks.embedded import RedisServer
from ryla_tasks.tasks.notebook import Notebook


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def make(url: str, **options: object) -> Celery:
    app = Celery("noting", broker=url, set_as_current=False)
    app.conf.broker_transport_options = options
    return app


@pytest.mark.parametrize("priority", [0, 3, 6, 9])
def test_what_is_noted_is_what_kombu_pushes(server: RedisServer, priority: int) -> None:
    app, client = make(server.url), redis.Redis.from_url(server.url)
    client.flushall()
    headers = {"id": "one", "task": "ryla.x", "lang": "py"}
    publish = {"exchange": "", "routing_key": "ryla.jobs", "headers": headers, "serializer": "json"}
    body = [[], {}, {"chain": None}]
    noted = Notebook(app, client).note(body, {**publish, "priority": priority})
    assert noted is not None
    assert client.keys("ryla.jobs*") == []
    with app.connection_for_write() as connection:
        connection.Producer().publish(body, priority=priority, **publish)
    (key,) = client.keys("ryla.jobs*")
    assert noted[0] == key.decode()
    ours, theirs = json.loads(noted[1]), json.loads(client.lindex(key, 0))
    for message in (ours, theirs):
        message["properties"].pop("delivery_tag")
    assert ours == theirs


def test_another_database_broker_or_prefix_is_left_to_kombu(server: RedisServer) -> None:
    client = redis.Redis.from_url(server.url)
    publish = {"exchange": "", "routing_key": "ryla.jobs", "headers": {}, "serializer": "json"}
    other = server.url.rsplit("/", 1)[0] + "/5"
    for app in (make(other), make("memory://"), make(server.url, global_keyprefix="theirs:")):
        assert Notebook(app, client).note([[], {}, {}], publish) is None
    assert Notebook(make(server.url), client).note([[], {}, {}], {**publish, "exchange": "custom"}) is None
