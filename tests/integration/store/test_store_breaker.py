"""Breakers: an open one holds back every submit to its target, one probe a pause; outcomes are noted with the jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_world import ENDPOINT, FREE, HERE, META_PREFIX, SUBMIT, TARGET, World, again, collecting, failed

from ryla_tasks.jobs.breaker import CLOSED, HELD, Breaker, Call, Outcome
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Candidate, Claim, Refusal, Refused
from ryla_tasks.store.breakers import BreakerStore
from tests.support.fleet import eventually


@pytest.fixture
def breakers(world: World) -> BreakerStore:
    return BreakerStore(world.client, prefix="ryla")


def ask(world: World, job_id: str | None = None) -> Claim | Refused:
    return world.store.claim_submit(ENDPOINT, HERE, job_id=job_id, lease_s=20)


def open_for(world: World, breakers: BreakerStore, in_s: float, *, why: Call = Call.RUN, pause_s: float = 60) -> None:
    before, _now = breakers.load(TARGET)
    after = Breaker(opened=world.now(), until=world.now() + in_s, pause_s=pause_s, why=why)
    assert breakers.change(TARGET, before, after)


def test_outcomes_are_noted_newest_first(world: World, breakers: BreakerStore) -> None:
    assert breakers.load(TARGET)[0] == replace(CLOSED, recent=tuple((call, ()) for call in Call))
    claim = world.claim(world.job())
    world.store.settle(claim, replace(failed(claim.record), outcome=Outcome(Call.RUN, bad=True)))
    world.waiting()
    ride = world.ride()
    world.settle(ride, replace(collecting(ride.records[0]), outcome=Outcome(Call.ATTEMPT, bad=False)))
    breaker, now = breakers.load(TARGET)
    assert [(call, [bad for _at, bad in outcomes]) for call, outcomes in breaker.recent] == [
        (Call.RUN, [False, True]),
        (Call.ATTEMPT, [False]),
        (Call.WAIT, []),
    ]
    assert now == pytest.approx(world.now(), abs=1)
    assert all(now - at < 5 for _call, outcomes in breaker.recent for at, _bad in outcomes)


def test_few_outcomes_are_kept(world: World) -> None:
    for _ in range(60):
        world.waiting()
    assert world.client.llen(f"ryla:outcomes:{TARGET}:run") == 50


def test_a_lost_settle_notes_nothing(world: World, breakers: BreakerStore) -> None:
    claim = world.claim(world.job(), lease_s=0.05)
    world.accept(claim.record)
    assert not world.store.settle(claim, replace(failed(claim.record), outcome=Outcome(Call.RUN, bad=True))).counted[0]
    assert [bad for _at, bad in breakers.load(TARGET)[0].recent[0][1]] == [False]


def test_an_open_breaker_holds_every_submit_to_its_target_and_no_other(world: World, breakers: BreakerStore) -> None:
    open_for(world, breakers, 60)
    first, other = world.job(), world.job(endpoint="lora")
    refused = ask(world, first)
    assert isinstance(refused, Refused)
    assert (refused.why, refused.job_id) == (Refusal.TROUBLE, first)
    assert refused.in_s == pytest.approx(60, abs=1)
    assert refused.wake_s == pytest.approx(30, abs=1), "no message waits longer than 30 s"
    assert world.due_in(f"due:{SUBMIT}", first) <= 0
    assert world.record(first).attempt == 0
    assert isinstance(
        world.store.claim_submit("lora", [Candidate("runpod:lora", FREE)], job_id=other, lease_s=5), Claim
    )


def test_what_died_on_its_way_is_settled_while_it_is_open(world: World, breakers: BreakerStore) -> None:
    job_id = world.job()
    world.claim(job_id, lease_s=0.05)
    open_for(world, breakers, 60)
    claim = eventually(lambda: isinstance(found := ask(world, job_id), Claim) and found)
    assert isinstance(claim, Claim)
    assert claim.lost


def test_after_the_pause_one_job_is_let_through_and_no_other_for_another_pause(
    world: World, breakers: BreakerStore
) -> None:
    jobs = [world.job() for _ in range(3)]
    open_for(world, breakers, 0.2)
    assert isinstance(ask(world), Refused)
    probe = eventually(lambda: isinstance(found := ask(world), Claim) and found)
    assert isinstance(probe, Claim)
    assert probe.record.job_id == jobs[0]
    for _ in range(3):
        held = ask(world)
        assert isinstance(held, Refused)
        assert held.why is Refusal.TROUBLE
        assert held.in_s == pytest.approx(60, abs=1)
    assert breakers.load(TARGET)[0].probe == ()
    assert world.accept(probe.record).breaker_open
    assert breakers.load(TARGET)[0].probe == (Outcome(Call.RUN, bad=False),)
    ride = world.ride()
    settled = world.settle(ride, replace(collecting(ride.records[0]), outcome=Outcome(Call.ATTEMPT, bad=True)))
    assert settled.breaker_open
    assert breakers.load(TARGET)[0].probe == (Outcome(Call.RUN, bad=False), Outcome(Call.ATTEMPT, bad=True))


def test_outcomes_of_others_are_not_the_probes(world: World, breakers: BreakerStore) -> None:
    world.waiting()
    open_for(world, breakers, 60)
    ride = world.ride()
    decision = replace(collecting(ride.records[0]), outcome=Outcome(Call.ATTEMPT, bad=False))
    assert world.settle(ride, decision).breaker_open
    assert breakers.load(TARGET)[0].probe == ()


def test_of_two_who_change_it_one_does(world: World, breakers: BreakerStore) -> None:
    before, now = breakers.load(TARGET)
    opened = Breaker(opened=now, until=now + 10, pause_s=10)
    assert breakers.change(TARGET, before, opened)
    assert not breakers.change(TARGET, before, opened)
    stored = breakers.load(TARGET)[0]
    assert breakers.change(TARGET, stored, CLOSED)
    assert not breakers.change(TARGET, stored, CLOSED)
    assert world.client.hmget("ryla:counters", "breaker_opened", "breaker_closed") == [b"1", b"1"]
    assert not breakers.load(TARGET)[0].is_open
    assert isinstance(ask(world, world.job()), Claim)


def test_a_held_job_is_told_so_and_keeps_its_attempts(world: World) -> None:
    job_id = world.job()
    record, now = world.store.load(job_id)
    assert world.store.remark(record, HELD, now)
    after = world.record(job_id)
    assert (after.state, after.attempt, after.retries, after.observed.message) == (State.QUEUED, 0, 0, HELD)
    assert HELD.encode() in world.events(job_id)[-1]
    assert HELD.encode() in (world.client.get(META_PREFIX + job_id) or b"")


def test_nothing_is_told_of_a_job_that_has_moved_on(world: World) -> None:
    job_id = world.job()
    record, now = world.store.load(job_id)
    world.accept(world.claim(job_id).record)
    before = world.dump()
    assert not world.store.remark(record, HELD, now)
    assert world.dump() == before
    ride = world.ride()
    world.settle(ride, again(ride.records[0], 5))
