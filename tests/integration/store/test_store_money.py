"""Budgets in the store: what is reserved, what is turned away, what is spent when an attempt is over, and whose day."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from store_world import ENDPOINT, FREE, TARGET, World, again, collecting, completed, failed, retried

from ryla_tasks.errors import BudgetExceeded
from ryla_tasks.jobs.budget import Ceiling, stopped
from ryla_tasks.jobs.cost import ColdStart
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.money import Money, micro
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Candidate, Claim, OverBudget, Rate, Refusal, Refused, Spend
from ryla_tasks.store.budgets import Budgets, SpendStore, Terms

#: A cent a second: with the 10 s that the jobs here are expected to run, ten cents each.
TERMS = Terms(0.01, 0.01)
TEN_S = {"expected_run_s": 10.0}


@pytest.fixture
def under(world: World) -> Iterator[Callable[..., None]]:
    """Puts the world under budgets."""
    free = world.store

    def put(endpoint: float | None = None, user: float | None = None, offset_s: int = 0) -> None:
        endpoints = {} if endpoint is None else {ENDPOINT: endpoint}
        world.store = world.new_store(Budgets(endpoints, user, lambda: offset_s))

    put()
    yield put
    world.store = free


def ask(world: World, job_id: str | None = None, terms: Terms | None = TERMS, **options: Any) -> Claim | Refused:
    there = Candidate(TARGET, options.pop("rate", FREE), terms)
    return world.store.claim_submit(ENDPOINT, [there], job_id=job_id, lease_s=20, checked=True, **options)


def claimed(world: World, job_id: str | None = None, terms: Terms | None = TERMS) -> Claim:
    claim = ask(world, job_id, terms)
    assert isinstance(claim, Claim), claim
    return claim


def spent(world: World, *, users: tuple[str, ...] = (), offset_s: int = 0) -> Any:
    """What the endpoint has spent today, and the users, in dollars."""
    _day, amounts = SpendStore(world.client, prefix="ryla", offset_s=lambda: offset_s).today([ENDPOINT], users)
    return amounts if users else amounts[0]


def error_of(record: JobRecord) -> BudgetExceeded:
    error = raised(record.job_id, record.ending or {})
    assert isinstance(error, BudgetExceeded)
    return error


def counter(world: World, name: str) -> int:
    return int(world.client.hget("ryla:counters", name) or 0)


def paying(decision: Decision, usd: float | None) -> Decision:
    """A decision that ends the attempt, which has cost this."""
    cost = None if usd is None else micro(usd)
    return replace(decision, record=decision.record.with_(money=decision.record.money.closed(cost)))


def running(world: World, *, reserved: float = 0.1, **options: Any) -> JobRecord:
    """A job at its endpoint, in a ride."""
    job_id = world.job(**{**TEN_S, **options})
    world.accept(claimed(world, job_id).record)
    return next(record for record in world.ride(most_rides=1_000).records if record.job_id == job_id)


def held_ride(world: World) -> Any:
    """A ride with all that is there, whoever had it before."""
    where = "ryla:due:poll:" + TARGET
    for job_id in world.client.zrange(where, 0, -1):
        world.client.zadd(where, {job_id: round((world.now() - 1) * 1000) * 1000})
    return world.ride(most_rides=1_000)


def test_a_claim_reserves_what_the_job_is_expected_to_cost(world: World, under: Callable[..., None]) -> None:
    job_id = world.job(user_id="ann", **TEN_S)
    claim = claimed(world, job_id)
    assert claim.record.money == Money(0.01, 0.01, reserved=100_000)
    assert world.record(job_id).money == claim.record.money
    assert spent(world, users=("ann", "bob")) == (0.1, 0.1, 0.0)
    assert claim.news.spends == (), "no budget, nothing to tell"


def test_what_is_usual_at_the_target_goes_before_what_was_expected(world: World, under: Callable[..., None]) -> None:
    assert claimed(world, world.job(**TEN_S), Terms(0.01, run_s=42.5)).record.money.reserved == 425_000
    assert claimed(world, world.job(), Terms(0.00031)).record.money.reserved == 15 * 310, "the default of a spec"
    assert claimed(world, world.job(**TEN_S), Terms(0.0000001)).record.money.reserved == 1, "a begun one is whole"


def test_a_target_without_a_price_has_no_accounts(world: World, under: Callable[..., None]) -> None:
    under(endpoint=0.05, user=0.05)
    job_id = world.job(user_id="ann", **TEN_S)
    claim = claimed(world, job_id, None)
    assert claim.record.money == Money()
    world.accept(claim.record)
    (record,) = world.ride().records
    world.store.settle_ride(world.ride(), [], last=True)
    world.settle(held_ride(world), failed(record))
    assert [key for key in world.dump() if "spend" in key] == []
    assert not world.client.hexists(f"ryla:job:{job_id}", "paid")


def test_an_attempt_that_goes_to_a_target_without_a_price_forgets_the_old_one(
    world: World, under: Callable[..., None]
) -> None:
    job_id = world.job(**TEN_S)
    claim = claimed(world, job_id)
    world.store.settle(claim, paying(retried(claim.record), 0.03))
    record = claimed(world, job_id, None).record
    assert record.money == Money(paid=30_000)


def test_a_job_that_goes_to_another_target_is_counted_at_its_price(world: World, under: Callable[..., None]) -> None:
    job_id = world.job(**TEN_S)
    both = [Candidate(TARGET, FREE, TERMS), Candidate("runpod:other", FREE, Terms(0.02, 0.0))]
    claim = world.store.claim_submit(ENDPOINT, both, job_id=job_id, lease_s=20)
    assert isinstance(claim, Claim)
    left = Fallback(FallbackKind.ENDPOINT, TARGET, "", "no_worker", 1)
    moved = claim.record.with_(state=State.QUEUED, fallbacks=(left,))
    world.store.settle(claim, paying(Decision(moved, Step.SUBMIT, event="failover"), 0.03))
    claim = world.store.claim_submit(ENDPOINT, both, job_id=job_id, lease_s=20)
    assert isinstance(claim, Claim)
    assert claim.record.target == "runpod:other"
    assert claim.record.money == Money(0.02, 0.0, paid=30_000, reserved=200_000)
    assert spent(world) == 0.23


# --- ceilings before a submit ---


def test_a_burst_stops_at_the_endpoints_budget_and_the_rest_ends_at_once(
    world: World, under: Callable[..., None]
) -> None:
    under(endpoint=0.55)
    jobs = [world.job(user_id=f"u{n % 3}", **TEN_S) for n in range(20)]
    taken = []
    while isinstance(claim := ask(world), Claim):
        taken.append(claim.record.job_id)
    assert len(taken) == 5
    assert claim.why is Refusal.NONE
    over = {one.job_id: one.ceiling for one in claim.news.over}
    assert over == {job_id: Ceiling.ENDPOINT for job_id in jobs if job_id not in taken}
    assert {delivery.job_id for delivery in claim.news.deliveries} == set(over)
    assert claim.news.deliveries[0].envelope.startswith("envelope of job")
    for job_id in over:
        record = world.record(job_id)
        assert (record.state, record.attempt, record.money) == (State.FAILED, 0, Money())
        error = error_of(record)
        assert error.info["code"] == "budget_endpoint"
        assert error.details == {"ceiling_usd": 0.55, "spent_usd": 0.5, "expected_usd": 0.1}
        assert str(error) == "The job was not started: today's budget for such jobs is used up."
        assert json.loads(world.events(job_id)[-1])["phase"] == "failed"
        world.collect(job_id)
    assert spent(world) == 0.5
    assert counter(world, "budget_refused") == 15
    assert world.client.zcard(f"ryla:due:submit:{ENDPOINT}") == 5
    assert not world.client.exists(f"ryla:ring:{ENDPOINT}")


def test_a_smaller_job_may_still_fit(world: World, under: Callable[..., None]) -> None:
    under(endpoint=0.15)
    first, second, small = world.job(**TEN_S), world.job(**TEN_S), world.job(expected_run_s=5.0)
    assert claimed(world, first).record.job_id == first
    claim = claimed(world)
    assert claim.record.job_id == small
    assert claim.news.over == (OverBudget(second, Ceiling.ENDPOINT),)


def test_one_users_budget_is_not_anothers(world: World, under: Callable[..., None]) -> None:
    under(user=0.25)
    anns = [world.job(user_id="ann", **TEN_S) for _ in range(5)]
    bob = world.job(user_id="bob", **TEN_S)
    nobodys = [world.job(**TEN_S) for _ in range(4)]
    taken = []
    while isinstance(claim := ask(world), Claim):
        taken.append(claim.record.job_id)
    assert set(taken) == {*anns[:2], bob, *nobodys}, "jobs without a user are not limited by it"
    assert [error_of(world.record(job_id)).info["code"] for job_id in anns[2:]] == ["budget_user"] * 3
    assert spent(world, users=("ann", "bob", "")) == (0.7, 0.2, 0.1, 0.0)


def test_a_user_without_money_does_not_hold_the_others_up(world: World, under: Callable[..., None]) -> None:
    under(user=0.05)
    for _ in range(100):
        world.job(user_id="ann", **TEN_S)
    bob, nobodys = world.job(user_id="bob", expected_run_s=1.0), world.job(**TEN_S)
    claim = claimed(world)
    assert (claim.record.job_id, len(claim.news.over)) == (bob, 1)
    assert claimed(world).record.job_id == nobodys, "without a user there is no user's budget"


def test_a_claim_ends_so_many_and_leaves_the_rest_to_the_next(world: World, under: Callable[..., None]) -> None:
    under(endpoint=0.05)
    jobs = [world.job(**TEN_S) for _ in range(40)]
    refused = ask(world)
    assert isinstance(refused, Refused)
    assert (refused.why, len(refused.news.over), refused.wake_s) == (Refusal.WAIT, 32, 0.0)
    assert refused.job_id == jobs[31]
    refused = ask(world)
    assert (refused.why, len(refused.news.over)) == (Refusal.NONE, 8)
    assert {world.state(job_id) for job_id in jobs} == {State.FAILED}


def test_a_jobs_own_ceiling(world: World, under: Callable[..., None]) -> None:
    job_id = world.job(max_cost_usd=0.09, **TEN_S)
    refused = ask(world, job_id)
    assert isinstance(refused, Refused)
    assert (refused.why, refused.news.over) == (Refusal.MOVED, (OverBudget(job_id, Ceiling.JOB),))
    error = error_of(world.record(job_id))
    assert (error.info["code"], str(error)) == (
        "budget_job",
        "The job was not started: it would cost more than it may.",
    )
    assert error.details == {"ceiling_usd": 0.09, "spent_usd": 0, "expected_usd": 0.1}
    assert claimed(world, world.job(max_cost_usd=0.1, **TEN_S))


def test_earlier_attempts_count_under_a_jobs_ceiling(world: World, under: Callable[..., None]) -> None:
    job_id = world.job(max_cost_usd=0.15, **TEN_S)
    claim = claimed(world, job_id)
    world.store.settle(claim, paying(retried(claim.record), 0.06))
    assert isinstance(ask(world, job_id), Refused)
    assert error_of(world.record(job_id)).details["spent_usd"] == 0.06
    assert (spent(world), world.record(job_id).money.paid) == (0.06, 60_000)


def test_a_limit_of_calls_turns_away_what_could_be_paid_and_reserves_nothing(
    world: World, under: Callable[..., None]
) -> None:
    under(endpoint=0.25)
    jobs = [world.job(**TEN_S) for _ in range(4)]
    slow = Rate(per_s=0.01, burst=1)
    assert claimed_at(world, slow) == jobs[0]
    refused = ask(world, rate=slow)
    assert (refused.why, refused.news.over) == (Refusal.WAIT, ())
    assert spent(world) == 0.1
    assert world.state(jobs[1]) is State.QUEUED


def claimed_at(world: World, rate: Rate) -> str:
    claim = ask(world, rate=rate)
    assert isinstance(claim, Claim)
    return claim.record.job_id


def test_what_died_on_its_way_is_not_asked_for_money_again(world: World, under: Callable[..., None]) -> None:
    under(endpoint=0.1)
    job_id = world.job(**TEN_S)
    claimed(world, job_id)
    world.past(f"due:submit:{ENDPOINT}", job_id)
    claim = claimed(world, job_id)
    assert (claim.lost, claim.record.money.reserved, spent(world)) == (True, 100_000, 0.1)


def test_a_claim_asked_for_again_reserves_once(world: World, under: Callable[..., None]) -> None:
    there = {"id": TARGET, "per_s": 100, "burst": 100, "at_once": 100, "terms": TERMS.wish()}
    wish = {
        "endpoint": ENDPOINT, "targets": [there], "lease_ms": 20_000, "fence": 7, "correlation_id": "c",
        "spread": False, "health_ms": 30_000, "money": Budgets().wish(ENDPOINT),
    }  # fmt: skip
    world.job(**TEN_S)
    world.store._claim_submit(wish, 0.0, None)
    again = world.store._claim_submit({**wish, "again": True}, 0.0, None)
    assert isinstance(again, Claim)
    assert (again.record.attempt, again.record.money.reserved, spent(world)) == (1, 100_000, 0.1)


# --- the end of an attempt ---


@pytest.mark.parametrize(
    ("decide", "usd", "paid"),
    [(failed, 0.0, 0), (retried, 0.0, 0), (failed, None, 100_000), (retried, 0.25, 250_000)],
)
def test_a_reservation_becomes_what_the_attempt_has_cost(
    world: World, under: Callable[..., None], decide: Callable[..., Decision], usd: float | None, paid: int
) -> None:
    job_id = world.job(user_id="ann", **TEN_S)
    claim = claimed(world, job_id)
    world.store.settle(claim, paying(decide(claim.record), usd))
    money = world.record(job_id).money
    assert (money.paid, money.reserved) == (paid, 0)
    assert spent(world, users=("ann",)) == (paid / 1e6, paid / 1e6)


def test_a_settle_that_comes_too_late_pays_nothing(world: World, under: Callable[..., None]) -> None:
    claim = claimed(world, world.job(**TEN_S))
    world.accept(claim.record)
    assert world.store.settle(claim, paying(failed(claim.record), 0.0)).counted == (False,)
    assert spent(world) == 0.1


def test_a_result_pays_and_an_ended_job_keeps_its_account(world: World, under: Callable[..., None]) -> None:
    record = running(world)
    world.settle(held_ride(world), collecting(record))
    claim = world.collect(record.job_id)
    world.store.settle(claim, paying(completed(claim.record), 0.07), keep=True)
    assert (spent(world), world.record(record.job_id).money) == (0.07, Money(0.01, 0.01, paid=70_000))


@pytest.mark.parametrize("reason", CancelReason)
def test_an_unknown_submit_that_is_given_up_has_cost_what_it_reserved(
    world: World, under: Callable[..., None], reason: CancelReason
) -> None:
    job_id = world.job(**TEN_S)
    claim = claimed(world, job_id)
    world.store.settle(claim, Decision(claim.record.with_(state=State.UNKNOWN), Step.SUBMIT, 60.0))
    assert world.store.cancel(job_id, reason)[0] == "ended"
    assert (spent(world), world.record(job_id).money.paid) == (0.1, 100_000)


def test_a_twin_that_has_completed_is_the_attempt_that_was_assumed_to_be_paid(
    world: World, under: Callable[..., None]
) -> None:
    job_id = world.job(**TEN_S)
    claim = claimed(world, job_id)
    record = claim.record.with_(state=State.QUEUED, unanswered=((1, TARGET),))
    world.store.settle(claim, paying(Decision(record, Step.SUBMIT, 0.0, "resubmit"), None))
    assert (spent(world), world.record(job_id).money.paid) == (0.1, 100_000)
    assert world.store.adopt_twin(world.record(job_id), TARGET, "r-1", 0.0, Terms(0.02, 0.0))[0] == "kept"
    assert world.record(job_id).money == Money(0.02, 0.0, paid=0, reserved=100_000)
    done = world.collect(job_id)
    world.store.settle(done, paying(completed(done.record), 0.03))
    assert (spent(world), world.record(job_id).money.paid) == (0.03, 30_000)


def test_of_two_twins_one_is_measured_and_the_other_assumed(world: World, under: Callable[..., None]) -> None:
    job_id = world.job(**TEN_S)
    claim = claimed(world, job_id)
    record = claim.record.with_(state=State.QUEUED, unanswered=((1, TARGET),))
    world.store.settle(claim, paying(Decision(record, Step.SUBMIT, 0.0, "resubmit"), None))
    world.accept(claimed(world, job_id).record)
    assert world.store.adopt_twin(world.record(job_id), TARGET, "r-1", 0.0, TERMS)[0] == "kept"
    done = world.collect(job_id)
    world.store.settle(done, paying(completed(done.record), 0.03))
    assert (spent(world), world.record(job_id).money.paid) == (0.13, 130_000)


# --- while it runs ---


def test_a_reservation_grows_and_tells_what_is_over_a_budget(world: World, under: Callable[..., None]) -> None:
    under(endpoint=0.5, user=0.3)
    ann, bob = running(world, user_id="ann"), running(world, user_id="bob")

    def grow(record: JobRecord, usd: float) -> Any:
        ride = held_ride(world)
        now = next(one for one in ride.records if one.job_id == record.job_id)
        grown = now.with_(state=State.RUNNING, money=replace(now.money, reserved=micro(usd)))
        return world.settle(ride, again(grown)).news

    news = grow(ann, 0.3)
    assert (news.over, [spend.amount for spend in news.spends]) == ((), [400_000])
    assert news.spends[0].endpoint == ENDPOINT
    assert grow(ann, 0.31).over == (OverBudget(ann.job_id, Ceiling.USER, 310_000),)
    assert grow(bob, 0.2).over == (OverBudget(bob.job_id, Ceiling.ENDPOINT, 510_000),)
    assert spent(world, users=("ann", "bob")) == (0.51, 0.31, 0.2)
    assert world.record(ann.job_id).money.reserved == 310_000


def test_a_running_job_that_is_stopped_ends_with_the_error_that_it_was_stopped_with(
    world: World, under: Callable[..., None]
) -> None:
    record = running(world)
    error = stopped(Ceiling.ENDPOINT, {"spent_usd": 3.0})
    assert world.store.cancel(record.job_id, CancelReason.BUDGET, error)[0] == "remote"
    assert world.store.cancel(record.job_id, CancelReason.BUDGET, error)[0] == "remote"
    assert (world.record(record.job_id).cancel, counter(world, "budget_stopped")) == (CancelReason.BUDGET, 1)
    world.settle(held_ride(world), paying(failed(record), 0.02))
    ended = world.record(record.job_id)
    assert (ended.state, error_of(ended).info["code"], error_of(ended).details) == (
        State.FAILED, "budget_endpoint", {"spent_usd": 3.0},
    )  # fmt: skip
    assert spent(world) == 0.02


def test_a_result_that_was_there_first_is_kept(world: World, under: Callable[..., None]) -> None:
    record = running(world)
    world.store.cancel(record.job_id, CancelReason.BUDGET, stopped(Ceiling.JOB))
    world.settle(held_ride(world), collecting(record))
    claim = world.collect(record.job_id)
    world.store.settle(claim, paying(completed(claim.record), 0.07))
    assert (world.state(record.job_id), spent(world)) == (State.COMPLETED, 0.07)


# --- a worker's start ---


def start_of(sent: float, began: float) -> ColdStart:
    ms = round((began - sent) * 1000)
    return ColdStart(sent, began, ms, ms * 10)


def cold_ms_of(world: World, *intervals: tuple[float, float]) -> list[int]:
    """For how long a start counts for each of these jobs, in the order in which they are seen to run."""
    records = [running(world) for _ in intervals]
    for record, interval in zip(records, intervals, strict=True):
        decision = again(record, state=State.RUNNING)
        world.settle(held_ride(world), replace(decision, start=start_of(*interval)))
    return [world.record(record.job_id).money.cold_ms for record in records]


@pytest.mark.parametrize(
    ("intervals", "counted"),
    [
        ([(0, 60), (1, 61), (30, 75)], [60_000, 0, 0]),
        ([(1, 61), (0, 60)], [60_000, 0]),
        ([(0, 60), (70, 130)], [60_000, 60_000]),
        ([(70, 130), (0, 60), (2, 62), (75, 140)], [60_000, 60_000, 0, 0]),
    ],
    ids=["they wait for the same", "seen in another order", "one after the other", "the second is seen first"],
)
def test_a_start_counts_for_one_of_those_that_waited_for_it(
    world: World, under: Callable[..., None], intervals: list[tuple[float, float]], counted: list[int]
) -> None:
    assert cold_ms_of(world, *intervals) == counted


def test_few_starts_are_kept(world: World, under: Callable[..., None]) -> None:
    cold_ms_of(world, *((100.0 * n, 100.0 * n + 10) for n in range(25)))
    assert world.client.zcard(f"ryla:starts:{TARGET}") == 20


def test_a_start_that_ends_the_attempt_is_paid_with_it(world: World, under: Callable[..., None]) -> None:
    first, second = running(world), running(world)
    for record in (first, second):
        decision = replace(paying(failed(record), 0.02), start=start_of(0, 60))
        world.settle(held_ride(world), decision)
    assert [world.record(record.job_id).money.paid for record in (first, second)] == [620_000, 20_000]
    assert spent(world) == 0.64


# --- days ---


def test_a_day_begins_at_midnight_of_its_place(world: World, under: Callable[..., None]) -> None:
    """Midnight comes by choosing where it is."""
    under(endpoint=0.15)
    seconds = round(world.now()) % 86_400
    before, after = 86_400 - seconds - 60, 86_400 - seconds + 60
    first, second = (world.job(**TEN_S) for _ in range(2))
    under(endpoint=0.15, offset_s=before)
    claim = claimed(world, first)
    assert isinstance(ask(world, second), Refused)
    under(endpoint=0.15, offset_s=after)
    assert spent(world, offset_s=after) == 0.0
    assert claimed(world, world.job(**TEN_S)).record.money.reserved == 100_000
    assert (spent(world, offset_s=before), spent(world, offset_s=after)) == (0.1, 0.1)
    world.store.settle(claim, paying(failed(claim.record), 0.04))
    assert (spent(world, offset_s=before), spent(world, offset_s=after)) == (0.04, 0.1), "the day of its submit"
    (day,) = {int(spend.day) for spend in claim.news.spends}
    assert claim.news.spends == (Spend(ENDPOINT, day, 100_000),)
    assert day == int((world.now() + before) // 86_400)
    ttl = world.client.ttl(f"ryla:spend:{day}")
    assert 39 * 86_400 < ttl <= 40 * 86_400
