"""What a process knows of its targets: it asks beside its rides, with the whole fleet, and only for a reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from store_world import TARGET, World

from ryla_tasks.errors import ServerError
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import Sample
from ryla_tasks.jobs.stuck import Cause, Patience
from ryla_tasks.providers import EndpointHealth
from ryla_tasks.store.targets import TargetStore
from ryla_tasks.tasks.outlook import Outlooks
from tests.support.fleet import eventually

STARTING = EndpointHealth(jobs={"inQueue": 1}, workers={"initializing": 1})
NOBODY = EndpointHealth(jobs={"inQueue": 1}, workers={})


class Endpoint:
    """An endpoint whose /health counts how often it is asked."""

    def __init__(self, answer: EndpointHealth | Exception = STARTING) -> None:
        self.answer = answer
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def __call__(self, target: str) -> EndpointHealth:
        self.asked += 1
        assert self.open.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def process(world: World) -> Callable[..., Outlooks]:
    """A process of the fleet."""

    def make(endpoint: Endpoint, **options: Any) -> Outlooks:
        return Outlooks(TargetStore(world.new_store().client, prefix="ryla"), endpoint, **options)

    return make


def health_of(outlooks: Outlooks, now: float) -> Any:
    return outlooks.of(TARGET).health(now)


def test_processes_share_one_answer(
    world: World, callers: ThreadPoolExecutor, process: Callable[..., Outlooks]
) -> None:
    endpoint = Endpoint()
    fleet = [process(endpoint) for _ in range(4)]
    for one in fleet:
        one.refresh(TARGET, callers, waited_s=3.0)
    eventually(lambda: endpoint.asked and world.client.exists(f"ryla:health:{TARGET}"))
    for one in fleet:
        # Whoever looked before the answer was there looks again in 2 s.
        eventually(lambda one=one: one.refresh(TARGET, callers, waited_s=3.0) or health_of(one, world.now()), timeout=5)
        assert health_of(one, world.now()).starting
    assert endpoint.asked == 1


def test_a_health_that_hangs_is_in_nobodys_way(
    world: World, callers: ThreadPoolExecutor, process: Callable[..., Outlooks]
) -> None:
    endpoint = Endpoint()
    endpoint.open.clear()
    outlooks = process(endpoint)
    outlooks.refresh(TARGET, callers, waited_s=3.0)
    eventually(lambda: endpoint.asked == 1)
    began = time.monotonic()
    for _ in range(100):
        outlooks.refresh(TARGET, callers, waited_s=3.0)
        outlooks.of(TARGET)
    assert time.monotonic() - began < 0.5
    endpoint.open.set()
    assert eventually(lambda: health_of(outlooks, world.now())).starting
    assert endpoint.asked == 1


def test_nobody_asks_where_nobody_waits_or_not_for_long(
    world: World, callers: ThreadPoolExecutor, process: Callable[..., Outlooks]
) -> None:
    endpoint = Endpoint()
    world.client.lpush(f"ryla:stats:{TARGET}", Sample(0.0, State.COMPLETED, run_s=7.0).to_json())
    for waited_s in (0.0, 1.9):
        outlooks = process(endpoint)
        outlooks.refresh(TARGET, callers, waited_s=waited_s)
        assert eventually(lambda outlooks=outlooks: outlooks.of(TARGET).stats.run.count) == 1
    assert endpoint.asked == 0
    assert not world.client.exists(f"ryla:asked:{TARGET}")


def test_a_failing_health_is_recorded_for_the_fleet(
    world: World, callers: ThreadPoolExecutor, process: Callable[..., Outlooks]
) -> None:
    process(Endpoint(ServerError("503 https://h/v2/img?key=secret"))).refresh(TARGET, callers, waited_s=3.0)
    store = TargetStore(world.client, prefix="ryla")
    watch = eventually(lambda: store.look(TARGET).watch)
    assert (watch.down, watch.stuck, watch.verdict) == (True, False, "unreachable")
    assert watch.error.startswith("ServerError: 503")
    assert "secret" not in watch.error
    assert list(store.alerts()) == []


def test_a_verdict_is_raised_once_for_the_fleet_whoever_finds_it(
    world: World, callers: ThreadPoolExecutor, process: Callable[..., Outlooks], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint, store = Endpoint(NOBODY), TargetStore(world.client, prefix="ryla")
    for expected in range(1, 4):
        # A new process each time, and the time between two questions is over.
        world.client.delete(f"ryla:asked:{TARGET}")
        outlooks = process(endpoint, patience=Patience(without_worker_s=0.0))
        outlooks.refresh(TARGET, callers, waited_s=3.0)
        eventually(lambda outlooks=outlooks: outlooks.of(TARGET).watch)
        assert endpoint.asked == expected
    watch = store.look(TARGET).watch
    assert watch is not None
    assert (watch.stuck, watch.cause) == (True, Cause.NO_WORKER)
    (alert,) = store.alerts()
    assert (alert.type, alert.data["target"], alert.data["cause"]) == ("stuck", TARGET, "no_worker")
    assert alert.data["jobs"] == {"inQueue": 1}
    warned = [record for record in caplog.records if record.getMessage().startswith("endpoint.stuck")]
    assert len(warned) == 1


def test_redis_away_is_no_reason_to_stop_looking(
    world: World, callers: ThreadPoolExecutor, process: Callable[..., Outlooks], caplog: pytest.LogCaptureFixture
) -> None:
    away = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_timeout=1)
    outlooks = Outlooks(TargetStore(away, prefix="ryla"), Endpoint())
    outlooks.refresh(TARGET, callers, waited_s=3.0)
    eventually(lambda: any("outlook.failed" in record.getMessage() for record in caplog.records))
    caplog.clear()
    eventually(
        lambda: (
            outlooks.refresh(TARGET, callers, waited_s=3.0)
            or any("outlook.failed" in record.getMessage() for record in caplog.records)
        ),
        timeout=6,
    )
