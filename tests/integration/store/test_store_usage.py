"""The ledger: what is booked when an attempt or a job ends, once, whatever comes twice."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from store_world import ENDPOINT, FREE, TARGET, World

from ryla_tasks.errors import AnswerLost
from ryla_tasks.jobs.lifecycle import Surroundings, advance
from ryla_tasks.jobs.observation import Collected, OutcomeUnknown, Seen, StillUnknown
from ryla_tasks.jobs.record import JobRecord, OnUnknown
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.usage import OTHERS, By, Row, Usage, grouped, total
from ryla_tasks.store.answers import Candidate, Claim
from ryla_tasks.store.budgets import Terms
from ryla_tasks.store.usage import UsageStore

TERMS = Terms(0.01, 0.01)
AROUND = Surroundings()


def rows(world: World, *, users: bool = False) -> list[Row]:
    store = UsageStore(world.client, prefix="ryla")
    hour = int(store.now() // 3600)
    return (store.rows_of_users if users else store.rows)(hour - 1, hour + 1)


def used(world: World) -> Usage:
    return total(rows(world))


def running(world: World, terms: Terms | None = TERMS, **options: Any) -> JobRecord:
    """A job that was seen to run."""
    job_id = world.job(**options)
    claim = world.store.claim_submit(
        ENDPOINT, [Candidate(TARGET, FREE, terms)], job_id=job_id, lease_s=20, checked=True
    )
    assert isinstance(claim, Claim)
    world.accept(claim.record)
    return world.record(job_id)


def seen(world: World, status: RemoteStatus, **fields: Any) -> Any:
    """What a ride makes of the first job that is due there, settled twice."""
    ride = world.ride()
    (record,) = ride.records
    job = RemoteJob(record.remote_id, status, raw_status=str(status), **fields)
    decision = advance(record, Seen(job), ride.now, AROUND)
    settled = [world.store.settle_ride(ride, [(record, decision)], last=False) for _ in range(2)]
    assert [one.counted for one in settled] == [(True,), (False,)]
    return decision


def test_a_failed_attempt_is_booked_once_with_its_seconds(world: World) -> None:
    record = running(world, user_id="ann", max_retries=0)
    decision = seen(world, RemoteStatus.FAILED, delay_ms=700, execution_ms=2_300, error="no")
    assert decision.record.state is State.FAILED
    booked = Usage(failed=1, attempts=1, run_ms=2_300, waited_ms=700, cost=30_000)
    assert rows(world) == [Row(rows(world)[0].hour, booked, "image", ENDPOINT, TARGET)]
    (row,) = rows(world, users=True)
    assert (row.user, row.usage) == ("ann", Usage(failed=1, attempts=1, run_ms=2_300, cost=30_000))
    assert world.record(record.job_id).money.paid == 30_000


def test_without_a_price_the_seconds_are_booked_and_no_cost(world: World) -> None:
    running(world, None, max_retries=0)
    seen(world, RemoteStatus.FAILED, execution_ms=2_300, error="no")
    assert used(world) == Usage(failed=1, attempts=1, run_ms=2_300, unpriced=1, unpriced_ms=2_300)


@pytest.mark.parametrize("kind", ["image", "lora"])
def test_a_result_is_booked_with_its_images_and_an_alias_is_not(world: World, kind: str) -> None:
    wish = {"user_id": "ann", "kind": kind, "idempotency_key": "k", "digest": "d", "in_canvas": True}
    job_id = running(world, **wish).job_id
    alias = world.job(**wish)
    seen(world, RemoteStatus.COMPLETED, execution_ms=1_000, output={"x": 1})
    claim = world.collect(job_id)
    picture = {"content_type": "image/png"}
    result = {"artifacts": [picture, picture, {"content_type": "text/plain"}], "cost": {"usd": 0.01},
              "timings": {"executed_s": 1.0}}  # fmt: skip
    world.store.settle(claim, advance(claim.record, Collected(result), claim.now, AROUND))
    assert world.state(alias) is State.COMPLETED
    lora = 10_000 if kind == "lora" else 0
    assert used(world) == Usage(completed=1, attempts=1, run_ms=1_000, images=2, cost=10_000, lora_cost=lora)


def test_a_job_that_was_never_sent_is_a_job_and_costs_nothing(world: World) -> None:
    world.store.cancel(world.job(user_id="ann"))
    world.store.cancel(world.job())
    assert used(world) == Usage(cancelled=2)
    assert set(grouped(rows(world, users=True), By.USER, datetime.UTC)) == {"", "ann"}


def test_what_nobody_knows_is_assumed_and_taken_back_when_the_attempt_turns_up(world: World) -> None:
    job_id = world.job(on_unknown=OnUnknown.RESUBMIT, expected_run_s=10.0)
    there = [Candidate(TARGET, FREE, TERMS)]
    claim = world.store.claim_submit(ENDPOINT, there, job_id=job_id, lease_s=20)
    assert isinstance(claim, Claim)
    lost = advance(claim.record, OutcomeUnknown(AnswerLost("lost")), claim.now, AROUND)
    world.store.settle(claim, replace(lost, in_s=0.0))
    assert used(world) == Usage()
    again = world.store.claim_submit(ENDPOINT, there, job_id=job_id, lease_s=20)
    assert isinstance(again, Claim)
    world.store.settle(again, advance(again.record, StillUnknown(), again.now, AROUND))
    assert used(world) == Usage(cost=100_000, assumed=100_000)
    word, _ = world.store.adopt_twin(world.record(job_id), TARGET, "r-late", 0.0, TERMS)
    assert word == "kept"
    assert used(world) == Usage()
    assert world.record(job_id).money.paid == 0


def test_a_sheet_uses_what_its_cells_use(world: World) -> None:
    sheet = world.job("sheet", cells=("a",), kind="image")
    world.store.cancel(sheet)
    assert world.state(sheet) is State.CANCELLED
    assert used(world) == Usage()


def test_odd_names_come_back_as_they_are(world: World) -> None:
    names = ["*", "=", "a b c", "ünï|code\n", ""]
    for name in names:
        world.store.cancel(world.job(user_id=name))
    assert set(grouped(rows(world, users=True), By.USER, datetime.UTC)) == set(names)


def test_users_beyond_the_most_are_summed_up_as_others(world: World) -> None:
    store = UsageStore(world.client, prefix="ryla")
    day = int(store.now() // 86_400)
    world.client.hset(f"ryla:usage_users:{day}", mapping={f"0 other_measure ={n}": 1 for n in range(100_000)})
    for name in ("ann", "bob"):
        world.store.cancel(world.job(user_id=name))
    groups = grouped(rows(world, users=True), By.USER, datetime.UTC)
    assert (set(groups), groups[OTHERS].cancelled) == ({OTHERS}, 2)
    assert world.client.hlen(f"ryla:usage_users:{day}") == 100_001


def test_days_are_kept_for_400_days(world: World) -> None:
    world.store.cancel(world.job(user_id="ann"))
    for key in world.client.keys("ryla:usage*"):
        assert 399 * 86_400 < world.client.ttl(key) <= 400 * 86_400
