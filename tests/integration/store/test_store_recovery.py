"""Recovery is counted, and what was never meant to be in the store can be cleaned up."""

from __future__ import annotations

import pytest
from store_world import ENDPOINT, POLL, SUBMIT, TARGET, World

from ryla_tasks.jobs.states import State
from ryla_tasks.store.cleaning import clean


def test_a_burst_of_recovery_is_told_once_when_it_is_over(world: World) -> None:
    assert world.store.note_recovery(0, calm_s=0.0) is None
    assert world.store.note_recovery(3, calm_s=0.0) is None
    very_late, late, punctual = world.waiting(), world.waiting(), world.waiting()
    world.past(f"due:{POLL}", very_late, by_s=20)
    world.past(f"due:{POLL}", late, by_s=5)
    assert [record.job_id for record in world.ride().records] == [very_late, late, punctual]
    assert world.store.note_recovery(2, calm_s=0.0) is None
    assert world.store.note_recovery(0, calm_s=60.0) is None
    told = world.store.note_recovery(0, calm_s=0.0)
    assert told is not None
    assert (told.tried, told.recovered, told.late) == (5, 2, 1)
    assert world.store.note_recovery(0, calm_s=0.0) is None
    counters = world.client.hgetall("ryla:counters")
    kept = {
        name: int(counters[name.encode()])
        for name in ("recovery_messages", "recovered_polls", "late_polls", "recoveries")
    }
    assert kept == {"recovery_messages": 5, "recovered_polls": 2, "late_polls": 1, "recoveries": 1}


def test_a_ride_passes_over_a_job_without_a_record(world: World) -> None:
    gone, there = world.waiting(), world.waiting()
    world.past(f"due:{POLL}", gone)
    world.client.delete(f"ryla:job:{gone}")
    assert [record.job_id for record in world.ride().records] == [there]
    assert not world.has(f"due:{POLL}", gone)


def test_a_ride_of_nobody_asks_for_the_next(world: World) -> None:
    gone = world.waiting()
    world.client.delete(f"ryla:job:{gone}")
    ride = world.ride()
    assert (ride.records, ride.wake_s) == ((), 0.0)
    ride = world.ride()
    assert (ride.records, ride.wake_s) == ((), None)


def test_there_is_nothing_to_clean_whatever_states_jobs_are_in(world: World) -> None:
    for state in (
        State.QUEUED, State.SUBMITTING, State.UNKNOWN, State.WAITING, State.RUNNING, State.COLLECTING, State.COMPLETED,
    ):  # fmt: skip
        world.at(state, user_id="ann", deadline_s=500)
    before = world.dump()
    assert clean(world.client, "ryla") == {}
    assert world.dump() == before


def ours(world: World, job_id: str) -> list[str]:
    """Every key of the store that names a job; Celery's results go by themselves."""
    return [name for name in world.traces(job_id) if name.startswith("ryla:")]


def test_what_has_no_record_goes(world: World) -> None:
    gone = world.job(user_id="ann", deadline_s=100, start_by_s=50.0)
    polled = world.waiting()
    kept = world.job(user_id="ann")
    world.client.delete(f"ryla:job:{gone}", f"ryla:job:{polled}")
    found = clean(world.client, "ryla", dry_run=True)
    assert set(found) == {"entries", "keys"}
    assert world.traces(gone)
    assert clean(world.client, "ryla") == found
    assert ours(world, gone) == []
    assert ours(world, polled) == []
    assert clean(world.client, "ryla") == {}
    assert world.state(kept) is State.QUEUED


@pytest.mark.parametrize(
    ("state", "place"),
    [
        (State.QUEUED, f"due:{SUBMIT}"),
        (State.UNKNOWN, f"due:{SUBMIT}"),
        (State.WAITING, f"due:{POLL}"),
        (State.RUNNING, f"due:{POLL}"),
        (State.COLLECTING, "due:deliver"),
    ],
)
def test_a_job_that_is_due_nowhere_is_put_back(world: World, state: State, place: str) -> None:
    job_id = world.at(state)
    world.client.zrem(f"ryla:{place}", job_id)
    assert clean(world.client, "ryla", dry_run=True) == {"astray": 1}
    assert not world.has(place, job_id)
    assert clean(world.client, "ryla") == {"astray": 1}
    assert world.due_in(place, job_id) <= 0
    assert clean(world.client, "ryla") == {}


def test_records_past_their_retention_go_and_those_that_nobody_would_drop_get_one(world: World) -> None:
    expired, forgotten = world.job(user_id="ann", idempotency_key="k"), world.job()
    for job_id in (expired, forgotten):
        world.store.cancel(job_id)
        world.store.delivered(job_id)
    world.past("expiry", expired)
    world.client.zrem("ryla:expiry", forgotten)
    assert clean(world.client, "ryla", dry_run=True) == {"expired": 1, "forgotten": 1}
    assert clean(world.client, "ryla") == {"expired": 1, "forgotten": 1}
    assert ours(world, expired) == []
    assert world.due_in("expiry", forgotten) > 0
    assert clean(world.client, "ryla") == {}


def test_orphans_are_left_to_the_sweeper(world: World) -> None:
    world.client.zadd("ryla:outbox", {f"orphan|{TARGET} r-1": world.now() * 1e6})
    assert clean(world.client, "ryla") == {}
    assert world.client.zcard("ryla:outbox") == 1
    assert ENDPOINT


def test_an_alias_that_would_wait_for_ever_comes_to_an_end(world: World) -> None:
    """Of a job whose record is gone, of one that has ended without it, and of one that does not know it."""
    pairs = []
    for n in range(3):
        wish = {"idempotency_key": f"k{n}", "digest": "d"}
        pairs.append((world.job(**wish), world.job(in_canvas=True, **wish)))
    (gone, first), (over, second), (under_way, third) = pairs
    world.client.delete(*(f"ryla:aliases:{twin}" for twin, _alias in pairs))
    world.client.delete(f"ryla:job:{gone}")
    world.store.cancel(over)
    assert clean(world.client, "ryla", dry_run=True)["astray"] == 3
    assert clean(world.client, "ryla")["astray"] == 3
    assert world.state(second) is State.CANCELLED
    assert world.record(second).ending == world.record(over).ending
    world.store.cancel(under_way)
    assert world.state(third) is State.CANCELLED
    assert world.claim(first).payload is None, "it has no input, and ends for want of it"
    assert not clean(world.client, "ryla")
