"""One Redis for all tests of the store, empty before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_world import World

from ryla_tasks.embedded import RedisServer


@pytest.fixture(scope="session")
def store_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def lasting_world(store_server: RedisServer) -> World:
    return World(store_server.url)


@pytest.fixture
def world(lasting_world: World) -> World:
    """A store with nothing in it."""
    lasting_world.client.flushall()
    return lasting_world


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A Redis that a test may stop, kill and freeze. Under `everysec` one whose disk is slow holds writes back for two
    seconds, and a kill then loses them."""
    with RedisServer(fsync="always") as server:
        yield server
