"""Lines: users take turns at an endpoint, limits hold for the whole fleet, and one message carries a line on."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from store_world import ENDPOINT, FREE, HERE, META_PREFIX, META_TTL_S, SUBMIT, TARGET, World, failed, retried

from ryla_tasks.embedded import RedisServer
from ryla_tasks.errors import StoreUnavailable
from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.states import Priority, State
from ryla_tasks.store.answers import Candidate, Claim, Rate, Refusal, Refused, Sweep
from ryla_tasks.store.codec import Meta
from ryla_tasks.store.jobs import JobStore
from tests.support.fleet import eventually


def ask(
    world: World, job_id: str | None = None, *, rate: Rate = FREE, target: str = TARGET, spread: bool = False
) -> Claim | Refused:
    return world.store.claim_submit(
        ENDPOINT, [Candidate(target, rate)], job_id=job_id, lease_s=20, spread=spread, checked=True
    )


def taken(world: World, job_id: str | None = None, **options: object) -> str:
    """The id of the job that is claimed."""
    claim = ask(world, job_id, **options)  # type: ignore[arg-type]
    assert isinstance(claim, Claim), claim
    return claim.record.job_id


def turned_away(world: World, job_id: str | None = None, **options: object) -> Refused:
    refused = ask(world, job_id, **options)  # type: ignore[arg-type]
    assert isinstance(refused, Refused), refused.record.job_id
    assert refused.why is Refusal.WAIT
    return refused


# --- turns ---


def test_users_take_turns_however_many_jobs_each_has(world: World) -> None:
    anns = [world.job(user_id="ann") for _ in range(5)]
    bobs = [world.job(user_id="bob") for _ in range(2)]
    order = [taken(world) for _ in range(7)]
    assert order == [anns[0], bobs[0], anns[1], bobs[1], *anns[2:]]
    assert ask(world) == Refused(Refusal.NONE)


def test_jobs_without_a_user_are_one_users(world: World) -> None:
    nobodys = [world.job() for _ in range(3)]
    ann = world.job(user_id="ann")
    assert [taken(world) for _ in range(4)] == [nobodys[0], ann, nobodys[1], nobodys[2]]


def test_a_message_submits_the_job_whose_turn_it_is_and_no_job_is_left_over(world: World) -> None:
    anns = [world.job(user_id="ann") for _ in range(4)]
    bob = world.job(user_id="bob")
    order = [taken(world, job_id) for job_id in (*anns, bob)]
    assert order.index(bob) == 1
    assert sorted(order) == sorted((*anns, bob))


def test_a_lone_job_is_claimed_by_its_own_message(world: World) -> None:
    assert taken(world, job_id := world.job()) == job_id
    first, second = world.job(), world.job()
    assert [taken(world, second), taken(world, first)] == [second, first]


def test_within_a_user_priority_goes_before_age(world: World) -> None:
    low = world.job(priority=Priority.LOW)
    normal, high = world.job(), world.job(priority=Priority.HIGH)
    assert [taken(world) for _ in range(3)] == [high, normal, low]


def test_a_users_high_priority_does_not_go_before_other_users(world: World) -> None:
    urgent = [world.job(user_id="ann", priority=Priority.HIGH) for _ in range(3)]
    calm = world.job(user_id="bob", priority=Priority.LOW)
    assert [taken(world) for _ in range(4)] == [urgent[0], calm, *urgent[1:]]


def test_a_job_is_in_line_from_its_due_time_on(world: World) -> None:
    later, retry = world.job(delay_s=0.3, user_id="ann"), world.job(user_id="bob")
    claim = world.claim(retry)
    world.store.settle(claim, retried(claim.record, 0.3))
    assert ask(world) == Refused(Refusal.NONE)
    eventually(lambda: world.due_in(f"due:{SUBMIT}", retry) <= 0)
    assert {taken(world), taken(world)} == {later, retry}


def test_what_has_left_the_line_is_not_claimed(world: World) -> None:
    cancelled, expired, last = (world.job() for _ in range(3))
    world.client.zadd("ryla:deadlines", {f"start|{expired}": round((world.now() - 5) * 1e6)})
    world.store.cancel(cancelled)
    assert taken(world) == last
    assert ask(world) == Refused(Refusal.NONE)
    assert [job_id for kind, job_id, _ in world.sweep().messages if kind == "deliver"] == [expired]
    assert not [key for key in world.dump() if key.startswith(("ryla:line:", "ryla:ring:", "ryla:later:x"))]


def test_a_job_put_back_is_in_line_again(world: World) -> None:
    claim = world.claim(world.job())
    world.store.settle(claim, Decision(claim.record.with_(state=State.QUEUED), Step.SUBMIT, 0.0))
    assert taken(world) == claim.record.job_id


def test_a_submit_that_died_is_found_by_a_claim_without_a_name(world: World) -> None:
    job_id = world.job()
    world.claim(job_id, lease_s=0.1)
    claim = eventually(lambda: isinstance(found := ask(world), Claim) and found)
    assert isinstance(claim, Claim)
    assert claim.lost
    assert claim.record.job_id == job_id


# --- limits ---


def test_over_the_rate_nothing_is_reserved_and_one_wake_message_is_outstanding(world: World) -> None:
    rate = Rate(per_s=4.0, burst=2)
    jobs = [world.job() for _ in range(6)]
    assert [taken(world, job_id, rate=rate) for job_id in jobs[:2]] == jobs[:2]
    first = turned_away(world, jobs[2], rate=rate)
    assert first.in_s == pytest.approx(0.25, abs=0.1)
    assert first.wake_s == pytest.approx(0.25, abs=0.1)
    for job_id in jobs[3:]:
        assert turned_away(world, job_id, rate=rate).wake_s is None
        assert world.due_in(f"due:{SUBMIT}", job_id) <= 0
    claim = eventually(lambda: isinstance(found := ask(world, rate=rate), Claim) and found)
    assert isinstance(claim, Claim)
    assert claim.record.job_id == jobs[2]


def test_a_newcomer_does_not_overtake_those_who_were_turned_away(world: World) -> None:
    rate = Rate(per_s=2.0, burst=1)
    taken(world, world.job(), rate=rate)
    waits = world.job()
    turned_away(world, waits, rate=rate)
    newcomer = world.job()
    world.client.delete(f"ryla:rate:{TARGET}:run")
    assert taken(world, newcomer, rate=rate) == waits


def test_a_wake_message_is_followed_by_another_while_there_is_a_line(world: World) -> None:
    for _ in range(3):
        world.job()
    first = ask(world, spread=True)
    assert isinstance(first, Claim)
    assert first.wake_s == pytest.approx(0, abs=0.01), "others may help at once"
    world.client.delete("ryla:wake")
    second = ask(world)
    assert isinstance(second, Claim)
    assert second.wake_s == pytest.approx(0.2, abs=0.05)
    last = ask(world)
    assert isinstance(last, Claim)
    assert last.wake_s is None


def test_a_line_whose_wake_message_is_lost_gets_another_and_its_jobs_none(world: World) -> None:
    rate = Rate(per_s=0.5, burst=1)
    jobs = [world.job() for _ in range(4)]
    taken(world, jobs[0], rate=rate)
    for job_id in jobs[1:]:
        turned_away(world, job_id, rate=rate)
        world.past(f"due:{SUBMIT}", job_id)
        world.past("outbox", f"{SUBMIT}|{job_id}")
    assert world.sweep() == Sweep((), (), ())
    world.client.hset("ryla:wake", SUBMIT, round((world.now() - 2) * 1e6))
    assert world.sweep().lines == (ENDPOINT,)
    assert world.sweep().lines == ()


def test_no_more_submits_are_under_way_than_may_be_for_the_whole_fleet(world: World) -> None:
    rate = Rate(per_s=10_000, burst=10_000, under_way=2)
    jobs = [world.job() for _ in range(5)]
    claims = [world.claim(job_id, rate=rate) for job_id in jobs[:2]]
    turned_away(world, jobs[2], rate=rate)
    world.accept(claims[0].record)
    claims.append(world.claim(jobs[2], rate=rate))
    turned_away(world, jobs[3], rate=rate)
    world.store.settle(claims[1], failed(claims[1].record))
    claims.append(world.claim(jobs[3], rate=rate))
    turned_away(world, jobs[4], rate=rate)
    unknown = Decision(claims[2].record.with_(state=State.UNKNOWN), Step.SUBMIT, 60.0)
    world.store.settle(claims[2], unknown)
    world.claim(jobs[4], rate=rate)
    turned_away(world, world.job(), rate=rate)


def test_a_submit_that_died_does_not_count_as_under_way_for_ever(world: World) -> None:
    rate = Rate(per_s=10_000, burst=10_000, under_way=1)
    world.claim(world.job(), rate=rate, lease_s=0.3)
    waits = world.job(user_id="ann")
    turned_away(world, waits, rate=rate)
    eventually(lambda: isinstance(found := ask(world, rate=rate), Claim) and found.record.job_id == waits)


def test_a_429_on_submits_holds_all_submits_to_the_target_and_then_spreads_them(world: World) -> None:
    rate = Rate(per_s=4.0, burst=50)
    jobs = [world.job() for _ in range(3)]
    world.store.hold(TARGET, "run", 0.5)
    for job_id in jobs:
        assert turned_away(world, job_id, rate=rate).in_s == pytest.approx(0.5, abs=0.2)
    first = eventually(lambda: isinstance(found := ask(world, rate=rate), Claim) and found, every=0.005)
    assert isinstance(first, Claim)
    assert turned_away(world, rate=rate).in_s == pytest.approx(0.25, abs=0.1), "no burst right after a 429"
    assert taken(world, rate=rate, target="runpod:other") == jobs[1]


def test_many_processes_at_once_keep_the_rate_and_give_every_user_the_same(world: World) -> None:
    for _ in range(60):
        world.job(user_id="ann")
    for _ in range(20):
        world.job(user_id="bob")
    rate = Rate(per_s=40.0, burst=10)
    order: list[str] = []
    begun = time.monotonic()

    def work() -> None:
        store = world.new_store()
        while time.monotonic() - begun < 1.0:
            claim = store.claim_submit(ENDPOINT, [Candidate(TARGET, rate)], job_id=None, lease_s=20)
            if isinstance(claim, Claim):
                order.append(claim.record.spec.user_id)
            else:
                time.sleep(0.005)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    most = rate.burst + rate.per_s * (time.monotonic() - begun) + 1
    assert 40 <= len(order) <= most
    assert order[:40].count("bob") == pytest.approx(20, abs=2)


# --- a lost answer ---


def patient_store(server: RedisServer) -> JobStore:
    client = redis.Redis(
        host="127.0.0.1", port=server.port, socket_timeout=0.4, socket_connect_timeout=0.4, retry=Retry(NoBackoff(), 0)
    )
    return JobStore(client, prefix="ryla", meta=Meta(META_PREFIX, META_TTL_S))


@pytest.mark.parametrize("named", [True, False])
def test_a_claim_whose_answer_was_lost_is_given_again(own_server: RedisServer, named: bool) -> None:
    """Redis carries the claim out and its answer is lost: the same attempt is claimed again."""
    world = World(own_server.url)
    store = patient_store(own_server)
    job_id, other = world.job(), world.job()
    store.load(job_id)  # so that the connection is open already
    pid = own_server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    # Thawed, Redis finds the claim that nobody waits for any more, and later the same one again.
    thaw = threading.Timer(1.0, os.kill, (pid, signal.SIGCONT))
    thaw.start()
    try:
        claim = store.claim_submit(ENDPOINT, HERE, job_id=job_id if named else None, lease_s=10)
    finally:
        thaw.join()
    assert isinstance(claim, Claim)
    assert not claim.lost
    assert claim.record == world.record(job_id)
    assert (claim.record.job_id, claim.record.attempt) == (job_id, 1)
    assert claim.payload == {"prompt": "x"}
    assert claim.age() > 0.4, "the lease counts from the first time"
    assert world.client.hget("ryla:counters", "attempts") == b"1"
    assert world.state(other) is State.QUEUED
    assert world.store.settle(claim, failed(claim.record)).counted == (True,)


def test_a_claim_that_redis_never_had_is_made_when_it_is_back(own_server: RedisServer) -> None:
    world = World(own_server.url)
    store = patient_store(own_server)
    job_id = world.job()
    own_server.kill()
    with pytest.raises(StoreUnavailable) as caught:
        store.claim_submit(ENDPOINT, HERE, job_id=job_id, lease_s=10)
    assert not caught.value.sent, "nothing can have happened: the message comes again"
    own_server.start()
    assert isinstance(store.claim_submit(ENDPOINT, HERE, job_id=job_id, lease_s=10), Claim)
