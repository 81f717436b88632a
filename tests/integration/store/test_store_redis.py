"""Redis as it is in bad hours: full, away, frozen, killed, with its scripts forgotten; and whose clock counts."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from store_world import POLL, SUBMIT, TARGET, World, again, collecting, completed, failed

from ryla_tasks.embedded import RedisServer
from ryla_tasks.errors import JobNotFound, StoreError, StoreUnavailable
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Creation
from ryla_tasks.store.codec import Meta
from ryla_tasks.store.events import read_events
from ryla_tasks.store.jobs import JobStore
from ryla_tasks.store.listing import list_records
from ryla_tasks.store.scripts import operations
from tests.support.fleet import eventually


def quick_store(port: int) -> JobStore:
    """A store that waits half a second for Redis, and asks once."""
    client = redis.Redis(
        host="127.0.0.1", port=port, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
    )
    return JobStore(client, prefix="ryla", meta=Meta("celery-task-meta-", 100))


# --- out of memory ---


@contextmanager
def no_memory_left(world: World) -> Iterator[None]:
    world.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError):
            world.client.set("more", "x")
        yield
    finally:
        world.client.config_set("maxmemory", 0)


def test_without_memory_no_job_is_accepted_and_the_error_says_why(world: World) -> None:
    before = world.dump()
    with no_memory_left(world), pytest.raises(StoreError, match="memory") as caught:
        world.job()
    assert not isinstance(caught.value, StoreUnavailable)
    assert world.dump() == before


def test_without_memory_accepted_jobs_go_on_to_their_end(world: World) -> None:
    job_id, other, orphaned = world.job(), world.job(), world.job()
    lost = world.claim(orphaned)
    world.store.settle(lost, failed(lost.record))
    with no_memory_left(world):
        world.accept(world.claim(job_id).record)
        ride = world.ride()
        world.settle(ride, again(ride.records[0], 5, state=State.RUNNING, event="state"), hold_s=0.001)
        assert world.state(job_id) is State.RUNNING
        assert world.store.nudge(job_id)[0] is not None
        ride = eventually(lambda: (found := world.ride()).records and found)
        assert world.settle(ride, collecting(ride.records[0], {"images": []})).counted == (True,)
        claim = world.collect(job_id)
        assert world.store.release(claim)
        claim = world.collect(job_id)
        world.store.settle(claim, completed(claim.record))
        assert world.store.delivery(job_id).envelope
        assert world.store.delivered(job_id)
        assert world.store.cancel(other)[0] == "ended"
        assert world.accept(lost.record, "r-1").orphan
        world.store.hold(TARGET, "run", 1)
        assert ("orphan", f"{TARGET} r-1", "") in world.sweep().messages
        world.store.orphan_done(TARGET, "r-1")
        assert world.state(job_id) is State.COMPLETED
        assert len(list(list_records(world.client, "ryla"))) == 3
        assert list(read_events(world.client, "ryla", job_id))


def test_without_memory_a_job_on_a_gpu_is_cancelled_and_records_are_swept(world: World) -> None:
    ended = world.at(State.COMPLETED)
    world.store.delivered(ended)
    world.past("expiry", ended)
    running = world.at(State.RUNNING)
    with no_memory_left(world):
        assert world.store.cancel(running)[0] == "remote"
        world.store.cancel_sent(running)
        world.sweep()
    assert world.has("outbox", f"cancel|{running}")
    with pytest.raises(JobNotFound):
        world.record(ended)


# --- away ---


def test_a_refused_connection_is_unavailable_and_nothing_was_sent() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        store = quick_store(port)
        with pytest.raises(StoreUnavailable) as caught:
            store.load("any")
        assert caught.value.sent is False
        for read in (list_records(store.client, "ryla"), read_events(store.client, "ryla", "any")):
            with pytest.raises(StoreUnavailable):
                next(read)


def test_a_frozen_redis_costs_one_time_out_and_the_command_may_have_run(own_server: RedisServer) -> None:
    world = World(own_server.url)
    world.store = store = quick_store(own_server.port)
    first = world.job("first")
    pid = own_server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            world.make("second")
        assert time.monotonic() - begun < 2
        assert caught.value.sent is True
    finally:
        os.kill(pid, signal.SIGCONT)
    # The command waited in the socket; the answers of later ones are not mixed up with its own.
    eventually(lambda: world.client.exists("ryla:job:second"))
    assert store.load(first)[0].job_id == first
    assert world.make("second").word is Creation.EXISTS
    assert store.load("second")[0].state is State.QUEUED


def test_after_a_crash_and_a_restart_calls_work_again_with_the_same_store(own_server: RedisServer) -> None:
    world = World(own_server.url)
    world.store = store = quick_store(own_server.port)
    polled, queued = world.waiting(), world.job()
    ride = world.ride()
    own_server.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.load(queued)
    own_server.start()
    assert store.load(queued)[0].state is State.QUEUED
    assert world.settle(ride, again(ride.records[0], state=State.RUNNING)).counted == (True,)
    assert store.load(polled)[0].state is State.RUNNING
    assert world.claim(queued).record.attempt == 1


def test_many_threads_share_a_store(world: World) -> None:
    made: list[str] = []

    def work(number: int) -> None:
        for step in range(20):
            job_id = world.job(f"t{number}-{step}")
            assert world.store.load(job_id)[0].job_id == job_id
            world.accept(world.claim(job_id).record)
            made.append(job_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 120
    assert world.client.zcard(f"ryla:due:{POLL}") == 120


# --- scripts ---


def test_scripts_that_redis_has_forgotten_are_loaded_again(world: World) -> None:
    job_id = world.job()
    world.client.script_flush()
    assert world.state(job_id) is State.QUEUED
    world.client.script_flush()
    claim = world.claim(job_id, durable=("WAITAOF", 1, 0, 2_000))
    assert claim.durable
    assert world.record(job_id).attempt == 1
    loaded = world.client.script_exists(operations()["load"][0], operations()["claim_submit"][0])
    assert loaded == [True, True]


def test_only_create_is_refused_without_memory() -> None:
    unflagged = {name for name, (_sha, text) in operations().items() if text.startswith("#!lua\n")}
    assert unflagged == {"create"}


def test_what_redis_refuses_is_a_store_error(world: World) -> None:
    job_id = world.job()
    world.client.delete(f"ryla:job:{job_id}")
    world.client.set(f"ryla:job:{job_id}", "not a hash")
    with pytest.raises(StoreError, match="refused load") as caught:
        world.record(job_id)
    assert not isinstance(caught.value, StoreUnavailable)


# --- durable intent ---


def test_an_intent_on_disk_is_durable(world: World) -> None:
    claim = world.claim(world.job(), durable=("WAITAOF", 1, 0, 2_000))
    assert claim.durable


@pytest.mark.parametrize("command", [("WAITAOF", 1, 1, 50), ("WAIT", 1, 50)])
def test_an_intent_that_no_replica_has_is_not_durable(world: World, command: tuple[str | int, ...]) -> None:
    job_id = world.job()
    claim = world.claim(job_id, durable=command)
    assert not claim.durable
    assert world.state(job_id) is State.SUBMITTING


def test_an_intent_is_not_durable_without_an_append_only_file(own_server: RedisServer) -> None:
    world = World(own_server.url)
    world.client.config_set("appendonly", "no")
    job_id = world.job()
    claim = world.claim(job_id, durable=("WAITAOF", 1, 0, 50))
    assert not claim.durable
    assert world.state(job_id) is State.SUBMITTING


# --- clocks ---


@pytest.mark.parametrize("wrong_by_s", [3_600.0, -3_600.0])
def test_a_clock_of_ours_that_is_wrong_by_an_hour_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong_by_s: float
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + wrong_by_s)
    assert abs(time.time() - world.now()) > 3_000
    job_id = world.job(delay_s=0.0, deadline_s=100, start_by_s=50, retention_s=200)
    assert world.due_in(f"due:{SUBMIT}", job_id) == pytest.approx(0, abs=2)
    assert world.due_in("deadlines", job_id) == pytest.approx(100, abs=2)
    assert world.due_in("deadlines", f"start|{job_id}") == pytest.approx(50, abs=2)
    claim = world.claim(job_id)
    assert claim.clock() == pytest.approx(world.now(), abs=2)
    world.accept(claim.record)
    ride = world.ride()
    assert ride.clock() == pytest.approx(world.now(), abs=2)
    world.settle(ride, collecting(ride.records[0]))
    claim = world.collect(job_id)
    world.store.settle(claim, completed(claim.record))
    world.store.delivered(job_id)
    assert world.due_in("expiry", job_id) == pytest.approx(200, abs=2)
    record, now = world.store.load(job_id)
    for moment in (now, record.created, record.submitted, record.ended, record.delivered):
        assert moment == pytest.approx(world.now(), abs=2)
    for event in read_events(world.client, "ryla", job_id):
        assert event.at == pytest.approx(world.now(), abs=2)
