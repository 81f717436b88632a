"""The event stream of a job: in order, readable from any position, capped, and read while it grows."""

from __future__ import annotations

import threading
import time

import pytest
from store_world import World, again, collecting, completed

from ryla_tasks.jobs.record import Observed
from ryla_tasks.jobs.states import State
from ryla_tasks.store.events import START, Event, read_events
from tests.support.fleet import eventually


def read(world: World, job_id: str, after: str = START, **options: float) -> list[Event]:
    return list(read_events(world.client, "ryla", job_id, after=after, **options))  # type: ignore[arg-type]


def test_events_tell_the_life_of_a_job_in_order(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    world.settle(ride, again(ride.records[0], state=State.RUNNING, event="state"))
    ride = world.ride()
    running = ride.records[0].with_(observed=Observed(percent=50.0))
    world.settle(ride, again(running, event="progress"))
    ride = world.ride()
    world.settle(ride, collecting(ride.records[0]))
    claim = world.collect(job_id)
    world.store.settle(claim, completed(claim.record))
    events = read(world, job_id)
    assert [(event.type, event.data["phase"]) for event in events] == [
        ("created", "queued"),
        ("state", "waiting"),
        ("state", "running"),
        ("progress", "running"),
        ("state", "collecting"),
        ("state", "completed"),
    ]
    assert events[3].data["percent"] == 50.0
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert events[0].at == pytest.approx(world.now(), abs=2)


def test_reading_goes_on_from_any_position(world: World) -> None:
    job_id = world.at(State.COMPLETED)
    events = read(world, job_id)
    assert len(events) > 3
    for number, event in enumerate(events):
        assert read(world, job_id, event.position) == events[number + 1 :]
    assert read(world, job_id, most=2) == events[:2]


def test_the_events_of_jobs_are_kept_apart(world: World) -> None:
    first, second = world.job(), world.job()
    world.store.cancel(first)
    assert [event.data["phase"] for event in read(world, first)] == ["queued", "cancelled"]
    assert [event.data["phase"] for event in read(world, second)] == ["queued"]
    assert read(world, "nobody") == []


def test_a_very_long_stream_is_capped_and_keeps_its_latest(world: World) -> None:
    job_id = world.waiting()
    for number in range(700):
        ride = world.ride()
        observed = Observed(percent=number / 10)
        world.settle(ride, again(ride.records[0].with_(observed=observed), event="progress"))
    kept = world.client.xlen(f"ryla:events:{job_id}")
    assert 500 <= kept <= 620
    events = read(world, job_id, most=1_000)
    assert len(events) == kept
    assert events[-1].data["percent"] == 69.9


def test_a_blocked_read_ends_when_an_event_comes(world: World) -> None:
    job_id = world.job()
    (created,) = read(world, job_id)
    found: list[Event] = []
    reader_world = World(world.url)

    def follow() -> None:
        found.extend(read(reader_world, job_id, created.position, block_s=4.5))

    reader = threading.Thread(target=follow)
    begun = time.monotonic()
    reader.start()
    eventually(lambda: world.client.info("clients")["blocked_clients"] == 1)
    world.store.cancel(job_id)
    reader.join(10)
    assert time.monotonic() - begun < 4
    assert [event.data["phase"] for event in found] == ["cancelled"]


def test_a_blocked_read_without_an_event_ends_after_its_time(world: World) -> None:
    job_id = world.job()
    (created,) = read(world, job_id)
    begun = time.monotonic()
    assert read(world, job_id, created.position, block_s=0.1) == []
    assert 0.09 <= time.monotonic() - begun < 2
