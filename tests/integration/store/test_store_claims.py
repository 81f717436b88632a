"""Fences and submits: one holder at a time, one submit for each attempt, an accepted remote job is never forgotten."""

from __future__ import annotations

import pytest
from store_world import (
    ENDPOINT,
    HERE,
    POLL,
    SUBMIT,
    TARGET,
    World,
    again,
    collecting,
    completed,
    failed,
    retried,
)

from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.record import CancelReason
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Accepted, Claim, Refusal, Refused
from tests.support.fleet import eventually

ORPHAN = ("orphan", f"{TARGET} r-1", "")


def test_every_claim_hands_out_another_fence(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    fences = []
    for _ in range(20):
        claim = world.collect(job_id)
        fences.append(claim.fence)
        assert world.store.release(claim)
    assert len(set(fences)) == len(fences)


def test_what_is_claimed_is_not_claimed_by_another(world: World) -> None:
    delivered, submitted, polled = world.at(State.COLLECTING), world.job(), world.waiting()
    world.claim(submitted)
    assert [record.job_id for record in world.ride().records] == [polled]
    world.collect(delivered)
    refused = world.store.claim_submit(ENDPOINT, HERE, job_id=submitted, lease_s=5)
    assert refused == Refused(Refusal.HELD)
    assert world.store.claim_submit(ENDPOINT, HERE, job_id=None, lease_s=5) == Refused(Refusal.NONE)
    assert world.ride().records == ()
    deliver = world.store.claim_deliver(job_id=delivered, lease_s=5)
    assert isinstance(deliver, Refused)
    assert deliver.why is Refusal.HELD
    assert world.store.claim_deliver(job_id=None, lease_s=5) == Refused(Refusal.NONE)


def test_a_settle_of_a_ride_with_a_lost_fence_changes_nothing(world: World) -> None:
    world.waiting()
    first = world.ride(lease_s=0.05)
    second = eventually(lambda: (ride := world.ride()).records and ride)
    assert second
    (record,) = first.records
    before = world.dump()
    for decision in (
        again(record, 5, state=State.RUNNING, event="state"),
        collecting(record, {"images": []}),
        completed(record),
        failed(record),
        retried(record),
    ):
        settled = world.settle(first, decision, last=False)
        assert settled.counted == (False,)
        assert settled.envelopes == ()
        assert world.dump() == before
    assert world.settle(second, again(record, 5, state=State.RUNNING, event="state")).counted == (True,)
    assert world.client.hget("ryla:counters", "fences_lost") == b"5"


def test_a_settle_of_a_submit_with_a_lost_fence_changes_nothing(world: World) -> None:
    job_id = world.job()
    first = world.claim(job_id, lease_s=0.05)
    world.accept(first.record)
    before = world.dump()
    assert world.store.settle(first, failed(first.record)).counted == (False,)
    assert world.dump() == before


def test_a_settle_of_a_delivery_with_a_lost_fence_changes_nothing(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    first = world.collect(job_id, lease_s=0.05)
    second = eventually(
        lambda: isinstance(claim := world.store.claim_deliver(job_id=job_id, lease_s=9), Claim) and claim
    )
    assert isinstance(second, Claim)
    before = world.dump()
    assert world.store.settle(first, completed(first.record)).counted == (False,)
    assert not world.store.release(first)
    assert world.dump() == before
    assert world.store.settle(second, completed(second.record)).counted == (True,)


def test_a_lease_that_is_over_but_was_not_claimed_again_still_settles(world: World) -> None:
    polled = world.waiting()
    ride = world.ride(lease_s=0.05)
    eventually(lambda: world.due_in(f"due:{POLL}", polled) < 0)
    assert world.settle(ride, again(ride.records[0], state=State.RUNNING)).counted == (True,)
    assert world.state(polled) is State.RUNNING
    submitted = world.job()
    claim = world.claim(submitted, lease_s=0.05)
    eventually(lambda: world.due_in(f"due:{SUBMIT}", submitted) < 0)
    assert world.store.settle(claim, failed(claim.record)).counted == (True,)


def test_the_same_settle_sent_twice_counts_once(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    decision = again(ride.records[0], 5.0, state=State.RUNNING, event="state")
    assert world.settle(ride, decision).counted == (True,)
    told = world.events(job_id)
    assert world.settle(ride, decision).counted == (False,)
    assert world.events(job_id) == told


# --- submit ---


def test_the_intent_is_written_with_the_claim(world: World) -> None:
    job_id = world.job()
    claim = world.claim(job_id)
    stored = world.record(job_id)
    assert stored == claim.record
    assert stored.state is State.SUBMITTING
    assert stored.attempt == 1
    assert stored.target == TARGET
    assert len(stored.correlation_id) == 24


def test_a_new_attempt_has_a_new_number_and_correlation_id_and_no_remote_id(world: World) -> None:
    job_id = world.waiting()
    first = world.record(job_id)
    ride = world.ride()
    settled = world.settle(ride, retried(ride.records[0]))
    assert [delivery.job_id for delivery in settled.envelopes] == [job_id]
    second = world.claim(job_id).record
    assert (second.attempt, second.retries, second.remote_id, second.submitted) == (2, 1, "", 0.0)
    assert second.correlation_id != first.correlation_id


def test_a_submit_lease_that_died_is_handed_out_as_lost_with_the_same_attempt(world: World) -> None:
    job_id = world.job()
    first = world.claim(job_id, lease_s=0.2)
    claim = eventually(
        lambda: isinstance(found := world.store.claim_submit(ENDPOINT, HERE, job_id=job_id, lease_s=5), Claim) and found
    )
    assert isinstance(claim, Claim)
    assert not first.lost
    assert claim.lost
    assert claim.record == first.record
    assert world.store.settle(claim, failed(claim.record)).counted == (True,)


def test_a_dead_submit_lease_gets_a_message_from_the_sweep(world: World) -> None:
    job_id = world.job()
    world.claim(job_id, lease_s=10.0)
    assert world.due_in("outbox", f"{SUBMIT}|{job_id}") == pytest.approx(10.5, abs=0.5)


def test_accept_counts_after_its_lease_is_over(world: World) -> None:
    job_id = world.job()
    claim = world.claim(job_id, lease_s=0.05)
    eventually(lambda: world.due_in(f"due:{SUBMIT}", job_id) < 0)
    assert not world.accept(claim.record).orphan
    assert world.state(job_id) is State.WAITING


def test_accept_counts_even_where_the_lost_claim_was_taken_by_another(world: World) -> None:
    job_id = world.job()
    first = world.claim(job_id, lease_s=0.05)
    other = world.claim(job_id)
    assert other.lost
    assert not world.accept(first.record).orphan
    assert world.store.settle(other, failed(other.record)).counted == (False,)
    assert world.state(job_id) is State.WAITING


def test_accept_again_is_a_no_op(world: World) -> None:
    job_id = world.job()
    record = world.claim(job_id).record
    assert world.accept(record, gap_s=3) == Accepted(orphan=False, cancelling=False, wake_s=pytest.approx(3, abs=0.1))
    before = world.dump()
    assert world.accept(record, gap_s=3) == Accepted(orphan=False, cancelling=False, wake_s=None)
    assert world.dump() == before


@pytest.mark.parametrize("moved_on", ["ended", "next attempt", "other remote job", "gone"])
def test_accept_after_the_job_has_moved_on_records_an_orphan(world: World, moved_on: str) -> None:
    job_id = world.job()
    claim = world.claim(job_id)
    if moved_on == "ended":
        world.store.settle(claim, failed(claim.record))
    elif moved_on == "next attempt":
        world.store.settle(claim, retried(claim.record))
        world.claim(job_id)
    elif moved_on == "other remote job":
        world.accept(claim.record, "r-0")
    else:
        world.client.flushall()
    before = world.dump(but=("ryla:counters", "ryla:outbox"))
    accepted = world.accept(claim.record, "r-1")
    assert accepted == Accepted(orphan=True, cancelling=False, wake_s=None)
    assert world.dump(but=("ryla:counters", "ryla:outbox")) == before
    assert ORPHAN in world.sweep().messages


def test_an_orphan_is_handed_out_by_sweeps_until_it_is_done(world: World) -> None:
    claim = world.claim(world.job())
    world.store.settle(claim, failed(claim.record))
    world.accept(claim.record, "r-1")
    assert ORPHAN in world.sweep().messages
    assert ORPHAN not in world.sweep().messages
    for _ in range(3):
        world.past("outbox", f"orphan|{TARGET} r-1")
        assert ORPHAN in world.sweep().messages
    world.store.orphan_done(TARGET, "r-1")
    assert not world.has("outbox", f"orphan|{TARGET} r-1")


def test_accept_of_a_job_that_was_asked_to_stop_has_it_cancelled_at_once(world: World) -> None:
    job_id = world.job()
    claim = world.claim(job_id)
    assert world.store.cancel(job_id) == ("asked", ())
    accepted = world.accept(claim.record)
    assert accepted.cancelling
    assert not accepted.orphan
    assert ("cancel", job_id, "") in world.sweep().messages


@pytest.mark.parametrize(
    ("reason", "state", "code"),
    [(CancelReason.USER, State.CANCELLED, "cancelled"), (CancelReason.DEADLINE, State.TIMED_OUT, "deadline")],
)
def test_a_stop_asked_for_during_a_submit_prevents_the_next_attempt(
    world: World, reason: CancelReason, state: State, code: str
) -> None:
    job_id = world.job()
    claim = world.claim(job_id)
    world.store.cancel(job_id, reason)
    settled = world.store.settle(claim, retried(claim.record))
    assert settled.counted == (True,)
    assert settled.envelopes == ()
    record = world.record(job_id)
    assert record.state is state
    assert record.ending is not None
    assert record.ending["error"]["info"]["code"] == code
    assert not world.has(f"due:{SUBMIT}", job_id)
    assert world.sweep().messages == (("deliver", job_id, f"envelope of {job_id}"),)


def test_a_submit_that_was_put_back_is_claimed_again_as_another_attempt(world: World) -> None:
    job_id = world.job()
    claim = world.claim(job_id)
    settled = world.store.settle(claim, Decision(claim.record.with_(state=State.QUEUED), Step.SUBMIT, 0.0))
    assert settled.counted == (True,)
    second = world.claim(job_id)
    assert not second.lost
    assert (second.record.attempt, second.record.retries) == (2, 0)


def test_the_first_due_job_of_an_endpoint_is_claimed_without_its_name(world: World) -> None:
    world.job(delay_s=60)
    second, _other = world.job(), world.job(endpoint="lora")
    claim = world.store.claim_submit(ENDPOINT, HERE, job_id=None, lease_s=5)
    assert isinstance(claim, Claim)
    assert claim.record.job_id == second
    assert world.store.claim_submit(ENDPOINT, HERE, job_id=None, lease_s=5) == Refused(Refusal.NONE)


def test_a_job_that_has_moved_on_or_never_was_is_not_claimed(world: World) -> None:
    waiting = world.waiting()
    for job_id, why in ((waiting, Refusal.MOVED), ("nobody", Refusal.GONE)):
        assert world.store.claim_submit(ENDPOINT, HERE, job_id=job_id, lease_s=5) == Refused(why)
        assert world.store.claim_deliver(job_id=job_id, lease_s=5) == Refused(why)
