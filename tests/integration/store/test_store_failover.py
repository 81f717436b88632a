"""Which target a claim takes a job to, how a job leaves one, and the calls that this costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_world import ENDPOINT, FREE, SUBMIT, TARGET, World, again, retried

from ryla_tasks.errors import JobFailed
from ryla_tasks.jobs.alternative import Alternative
from ryla_tasks.jobs.breaker import Breaker
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.falling_back import fallen_back
from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stuck import Cause, Watch
from ryla_tasks.store.answers import Candidate, Claim, Rate, Refusal, Refused
from ryla_tasks.store.breakers import BreakerStore
from ryla_tasks.store.targets import TargetStore

SECOND, THIRD = "runpod:second", "runpod:third"
ALL = tuple(Candidate(target, FREE) for target in (TARGET, SECOND, THIRD))


def ask(world: World, job_id: str | None = None, **options: object) -> Claim | Refused:
    options = {"checked": True, **options}
    return world.store.claim_submit(ENDPOINT, ALL, job_id=job_id, lease_s=20, **options)  # type: ignore[arg-type]


def goes_to(world: World, job_id: str) -> str:
    claim = ask(world, job_id)
    assert isinstance(claim, Claim), claim
    assert world.record(job_id).target == claim.record.target
    return claim.record.target


def shut(world: World, target: str, for_s: float = 60) -> None:
    breakers = BreakerStore(world.client, prefix="ryla")
    before, now = breakers.load(target)
    assert breakers.change(target, before, Breaker(opened=now, until=now + for_s, pause_s=60))


def watch(world: World, target: str, **fields: object) -> None:
    targets = TargetStore(world.client, prefix="ryla")
    world.client.delete(f"ryla:asked:{target}")
    look = targets.look(target, ask_every_s=30)
    seen = Watch(world.now(), Health(world.now()))
    assert targets.record_health(target, look.right, replace(seen, **fields))  # type: ignore[arg-type]


def test_a_job_goes_to_the_first_target_that_is_fit(world: World) -> None:
    assert goes_to(world, world.job()) == TARGET
    shut(world, TARGET)
    assert goes_to(world, world.job()) == SECOND
    watch(world, SECOND, stuck=True, cause=Cause.NO_WORKER)
    assert goes_to(world, world.job()) == THIRD
    watch(world, THIRD, error="it does not answer")
    held = world.job()
    refused = ask(world, held)
    assert isinstance(refused, Refused)
    assert (refused.why, refused.target) == (Refusal.TROUBLE, TARGET), "where none is fit it waits for the first"
    assert world.state(held) is State.QUEUED


def test_what_was_known_long_ago_counts_for_nothing(world: World) -> None:
    watch(world, TARGET, stuck=True, cause=Cause.NO_WORKER, at=world.now() - 91)
    assert goes_to(world, world.job()) == TARGET


def test_a_job_goes_only_to_targets_that_have_what_it_needs(world: World) -> None:
    assert goes_to(world, world.job(only=(THIRD,))) == THIRD
    shut(world, THIRD)
    refused = ask(world, world.job(only=(THIRD,)))
    assert isinstance(refused, Refused)
    assert refused.target == THIRD


def test_a_job_that_is_withdrawn_is_cancelled_until_it_has_gone_and_does_not_come_back(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    before = ride.records[0]
    leaving = before.with_(observed=replace(before.observed, leaving="no_worker"))
    world.settle(ride, Decision(leaving, Step.POLL, 0.0, "stuck", withdraw=True))
    assert world.has("outbox", f"cancel|{job_id}")
    ride = world.ride()
    line = Fallback(FallbackKind.ENDPOINT, TARGET, "", "no_worker", attempt=1)
    left = ride.records[0].with_(
        state=State.QUEUED, fallbacks=(line,), remote_id="", submitted=0.0, observed=before.observed
    )
    settled = world.settle(ride, Decision(left, Step.SUBMIT, 0.0, "failover"))
    assert [delivery.job_id for delivery in settled.envelopes] == [job_id]
    assert not world.has("outbox", f"cancel|{job_id}")
    record = world.record(job_id)
    assert (record.state, record.fallbacks, record.remote_id, record.retries) == (State.QUEUED, (line,), "", 0)
    assert goes_to(world, job_id) == SECOND
    assert world.record(job_id).attempt == 2
    assert int(world.client.hget("ryla:counters", "failovers")) == 1
    assert int(world.client.hget("ryla:counters", "fallbacks")) == 1
    assert world.client.hget("ryla:counters", "retries") is None


def test_one_that_has_begun_to_run_is_not_cancelled_any_more_unless_its_user_wants_it(world: World) -> None:
    for wanted in (False, True):
        job_id = world.waiting()
        ride = world.ride()
        world.settle(ride, replace(again(ride.records[0]), withdraw=True))
        if wanted:
            world.store.cancel(job_id)
        ride = world.ride()
        world.settle(ride, replace(again(ride.records[0], 60.0, state=State.RUNNING), withdraw=False))
        assert world.has("outbox", f"cancel|{job_id}") is wanted


def test_a_retry_wants_to_know_its_targets_health_and_is_held_while_it_is_down(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    world.settle(ride, retried(ride.records[0]))
    here = (Candidate(TARGET, FREE),)

    def claim(**options: object) -> Claim | Refused:
        options = {"health_s": 30.0, **options}
        return world.store.claim_submit(ENDPOINT, here, job_id=job_id, lease_s=20, **options)  # type: ignore[arg-type]

    refused = claim()
    assert isinstance(refused, Refused)
    assert (refused.why, refused.target, refused.job_id) == (Refusal.CHECK, TARGET, job_id)
    watch(world, TARGET, error="it does not answer")
    refused = claim()
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.DOWN
    assert 9 < world.due_in(f"due:{SUBMIT}", job_id) <= refused.in_s <= 10
    assert world.record(job_id).attempt == 1
    first = world.job()
    assert isinstance(world.store.claim_submit(ENDPOINT, here, job_id=None, lease_s=20), Claim), "a first submit goes"
    assert world.record(first).attempt == 1
    watch(world, TARGET)
    world.past(f"due:{SUBMIT}", job_id, 0.001)
    assert isinstance(claim(), Claim)
    assert int(world.client.hget("ryla:counters", "retries_held")) == 1


def test_cancels_keep_to_the_limits_and_what_is_turned_away_is_spread_behind_them(world: World) -> None:
    rate = Rate(per_s=10, burst=2, under_way=100)
    ids = [world.waiting() for _ in range(6)]
    for job_id in ids:
        world.store.cancel(job_id)
    taken = [
        world.store.take_call(TARGET, "cancel", rate, lease_s=5, wanted=f"cancel|{job_id}", patient=True) is not None
        for job_id in ids
    ]
    assert taken == [True, True, False, False, False, False]
    waits = [world.due_in("outbox", f"cancel|{job_id}") for job_id in ids[2:]]
    assert waits == sorted(waits)
    assert waits[-1] - waits[0] == pytest.approx(0.375, abs=0.05)
    users = world.waiting()
    world.store.cancel(users)
    assert world.store.take_call(TARGET, "cancel", rate, lease_s=5, wanted=f"cancel|{users}") is None
    assert world.due_in("outbox", f"cancel|{users}") < waits[1], "a user's wish does not wait behind them"


def test_so_many_cancels_may_be_under_way_and_a_call_given_back_makes_room(world: World) -> None:
    rate = Rate(per_s=1000, burst=1000, under_way=1)
    job_id = world.waiting()
    wanted = f"cancel|{job_id}"
    given = world.store.take_call(TARGET, "cancel", rate, lease_s=5, wanted=wanted)
    assert given is not None
    assert world.store.take_call(TARGET, "cancel", rate, lease_s=5, wanted=wanted) is None
    assert not world.has("outbox", wanted), "nothing is wanted that the outbox does not know"
    world.store.give_call(TARGET, "cancel", given)
    assert world.store.take_call(TARGET, "cancel", rate, lease_s=0.001, wanted=wanted) is not None
    while world.store.take_call(TARGET, "cancel", rate, lease_s=5, wanted=wanted) is None:
        pass  # a call that was never given back ends with its lease


def test_a_call_that_is_made_in_any_case_counts(world: World) -> None:
    world.waiting()
    rate = Rate(per_s=1, burst=1)
    world.store.spend_call(TARGET, "status", rate)
    assert world.ride(rate=rate).records == ()


def test_the_jobs_in_line_can_be_read_page_by_page(world: World) -> None:
    ids = [world.job() for _ in range(5)]
    pages = [world.store.in_line(ENDPOINT, start, 2)[0] for start in (0, 2, 4, 6)]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert {record.job_id for page in pages for record in page} == set(ids)


def test_another_input_goes_where_its_own_models_are(world: World) -> None:
    """Of three jobs: one that may then go to the third target alone, one that may go to all, and one whose only target
    has been left before: it goes back there, rather than to one that lacks the models."""
    wanted = {"only-third": (THIRD,), "all": (), "left": (SECOND,)}
    left = Fallback(FallbackKind.ENDPOINT, SECOND, "", "no_worker", attempt=1)
    for name, only in wanted.items():
        own = Alternative(FallbackKind.WORKFLOW, "a", "b", ("missing_node",), 0, 5.0, only=only)
        job_id = world.job(name, fallbacks=(own,), only=(SECOND,), other_inputs=("{}",))
        assert goes_to(world, job_id) == SECOND
        world.accept(world.record(job_id))
        ride = world.ride(target=SECOND)
        (record,) = ride.records
        error = JobFailed("x", {"code": "missing_node"})
        taken = fallen_back(record.with_(fallbacks=(left,) if name == "left" else ()), error, 0)
        assert taken is not None
        decision = Decision(taken[0], Step.SUBMIT, event="fallback", fallback_input=taken[1])
        world.store.settle_ride(ride, [(record, decision)], last=True)
        assert goes_to(world, job_id) == (only or (TARGET,))[0]
