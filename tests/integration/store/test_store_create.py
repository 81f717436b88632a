"""Accepting jobs: once for each id, once for each idempotency key, not before their time."""

from __future__ import annotations

import pytest
from store_world import ENDPOINT, HERE, SUBMIT, World, again, completed

from ryla_tasks.errors import JobNotFound
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Creation, Refusal, Refused
from ryla_tasks.store.codec import unpack_input


def test_a_created_job_is_queued_due_and_has_its_message_in_the_outbox(world: World) -> None:
    job_id = world.job(user_id="ann", tags=("a", "b"))
    record = world.record(job_id)
    assert record.state is State.QUEUED
    assert record.spec.tags == ("a", "b")
    assert record.created == pytest.approx(world.now(), abs=2)
    assert world.due_in(f"due:{SUBMIT}", job_id) <= 0
    assert 4 < world.due_in("outbox", f"{SUBMIT}|{job_id}") <= 5
    assert world.claim(job_id).payload == {"prompt": "x"}


def test_creating_the_same_id_again_changes_nothing(world: World) -> None:
    job_id = world.job("one", user_id="ann")
    before = world.dump()
    assert world.make("one", user_id="bob", input_json='{"prompt":"other"}').word is Creation.EXISTS
    assert world.dump() == before
    world.accept(world.claim(job_id).record)
    before = world.dump()
    assert world.make("one").word is Creation.EXISTS
    assert world.dump() == before


def test_a_large_input_is_kept_compressed_and_comes_back_whole(world: World) -> None:
    text = '{"prompt":"' + "x" * 200_000 + '"}'
    job_id = world.job(input_json=text)
    kept = world.client.get(f"ryla:input:{job_id}")
    assert kept is not None
    assert len(kept) < 10_000
    assert unpack_input(kept) == {"prompt": "x" * 200_000}
    assert world.claim(job_id).payload == {"prompt": "x" * 200_000}


def test_the_same_idempotency_key_of_a_user_gives_the_same_job(world: World) -> None:
    first = world.make(user_id="ann", idempotency_key="k", digest="d")
    before = world.dump()
    second = world.make(user_id="ann", idempotency_key="k", digest="d")
    assert (second.word, second.job_id) == (Creation.SAME, first.job_id)
    assert world.dump() == before


def test_an_idempotency_key_belongs_to_one_user(world: World) -> None:
    assert world.make(user_id="ann", idempotency_key="k", digest="d").word is Creation.CREATED
    assert world.make(user_id="bob", idempotency_key="k", digest="d").word is Creation.CREATED


def test_users_and_keys_with_colons_are_kept_apart(world: World) -> None:
    assert world.make(user_id="a", idempotency_key="b:c", digest="d").word is Creation.CREATED
    assert world.make(user_id="a:b", idempotency_key="c", digest="d").word is Creation.CREATED


def test_the_same_key_with_another_digest_is_a_conflict_and_changes_nothing(world: World) -> None:
    first = world.make(user_id="ann", idempotency_key="k", digest="d")
    before = world.dump()
    for in_canvas in (False, True):
        other = world.make(user_id="ann", idempotency_key="k", digest="e", in_canvas=in_canvas)
        assert (other.word, other.job_id) == (Creation.CONFLICT, first.job_id)
    assert world.dump() == before


def test_in_a_canvas_the_same_key_makes_an_alias_that_is_never_submitted(world: World) -> None:
    first = world.job(user_id="ann", idempotency_key="k", digest="d")
    alias = world.make(user_id="ann", idempotency_key="k", digest="d", in_canvas=True)
    assert alias.word is Creation.ALIAS
    assert alias.job_id != first
    assert world.record(alias.job_id).alias_of == first
    world.claim(first)
    refused = world.store.claim_submit(ENDPOINT, HERE, job_id=alias.job_id, lease_s=5)
    assert refused == Refused(Refusal.MOVED)


def test_an_alias_ends_with_its_twin(world: World) -> None:
    first = world.waiting(user_id="ann", idempotency_key="k", digest="d")
    alias = world.job(user_id="ann", idempotency_key="k", digest="d", in_canvas=True)
    ride = world.ride()
    settled = world.settle(ride, completed(ride.records[0]))
    assert {delivery.job_id: delivery.envelope for delivery in settled.envelopes} == {
        first: f"envelope of {first}",
        alias: f"envelope of {alias}",
    }
    assert world.state(alias) is State.COMPLETED
    assert world.record(alias).ending == world.record(first).ending
    assert world.events(alias)[-1] == world.events(first)[-1]


def test_an_alias_of_an_ended_twin_ends_at_once_and_tells_so(world: World) -> None:
    first = world.waiting(user_id="ann", idempotency_key="k", digest="d")
    ride = world.ride()
    world.settle(ride, completed(ride.records[0]))
    world.store.delivered(first)
    alias = world.make(user_id="ann", idempotency_key="k", digest="d", in_canvas=True)
    assert alias.word is Creation.ENDED
    assert [delivery.job_id for delivery in alias.deliveries] == [alias.job_id]
    assert world.record(alias.job_id).ending == world.record(first).ending
    assert world.events(alias.job_id)[-1] == world.events(first)[-1]
    assert world.collect(alias.job_id).record.state is State.COMPLETED


def test_an_alias_of_a_cancelled_twin_is_cancelled_with_it(world: World) -> None:
    first = world.job(user_id="ann", idempotency_key="k", digest="d")
    alias = world.job(user_id="ann", idempotency_key="k", digest="d", in_canvas=True)
    word, deliveries = world.store.cancel(first)
    assert word == "ended"
    assert [delivery.job_id for delivery in deliveries] == [first, alias]
    assert world.state(alias) is State.CANCELLED


def test_a_cancelled_alias_leaves_its_twin_alone_and_stays_cancelled(world: World) -> None:
    first = world.waiting(user_id="ann", idempotency_key="k", digest="d")
    alias = world.job(user_id="ann", idempotency_key="k", digest="d", in_canvas=True)
    assert world.store.cancel(alias)[0] == "ended"
    assert world.state(first) is State.WAITING
    ride = world.ride()
    settled = world.settle(ride, completed(ride.records[0]))
    assert [delivery.job_id for delivery in settled.envelopes] == [first]
    assert world.state(alias) is State.CANCELLED


def test_a_job_that_came_without_a_record_leaves_a_tombstone_for_thirty_days(world: World) -> None:
    job_id = world.waiting("unrecorded", recorded=False)
    ride = world.ride()
    world.settle(ride, completed(ride.records[0]))
    world.store.delivered(job_id)
    world.past("expiry", job_id)
    world.sweep()
    with pytest.raises(JobNotFound):
        world.record(job_id)
    before = world.dump()
    assert world.make(job_id, recorded=False).word is Creation.TOMBSTONE
    assert world.dump() == before
    assert world.client.ttl(f"ryla:tomb:{job_id}") == pytest.approx(30 * 86_400, abs=60)


def test_a_job_with_a_record_of_its_own_leaves_no_tombstone(world: World) -> None:
    job_id = world.at(State.COMPLETED)
    world.store.delivered(job_id)
    assert not world.client.exists(f"ryla:tomb:{job_id}")


def test_a_distant_eta_waits_in_the_store_and_its_message_is_not_due_before(world: World) -> None:
    job_id = world.job(delay_s=3_600)
    assert world.due_in("outbox", f"{SUBMIT}|{job_id}") == pytest.approx(3_600, abs=1)
    assert world.sweep().messages == ()
    refused = world.store.claim_submit(ENDPOINT, HERE, job_id=job_id, lease_s=5)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.EARLY
    assert refused.in_s == pytest.approx(3_600, abs=1)
    world.past(f"due:{SUBMIT}", job_id)
    world.past("outbox", f"{SUBMIT}|{job_id}")
    assert world.sweep().messages == (("submit", job_id, f"envelope of {job_id}"),)
    world.claim(job_id)


def test_a_near_eta_is_sent_by_its_caller_and_five_seconds_later_by_the_outbox(world: World) -> None:
    job_id = world.job(delay_s=20)
    assert world.due_in("outbox", f"{SUBMIT}|{job_id}") == pytest.approx(25, abs=1)


def test_a_deadline_counts_from_the_eta(world: World) -> None:
    job_id = world.job(delay_s=100, deadline_s=50)
    assert world.due_in("deadlines", job_id) == pytest.approx(150, abs=1)


def test_a_job_past_its_start_by_is_not_claimed_and_expires_with_the_sweep(world: World) -> None:
    job_id = world.job(start_by_s=100)
    world.past("deadlines", f"start|{job_id}")
    refused = world.store.claim_submit(ENDPOINT, HERE, job_id=job_id, lease_s=5)
    assert refused == Refused(Refusal.EXPIRED)
    assert world.sweep().messages == (("deliver", job_id, f"envelope of {job_id}"),)
    record = world.record(job_id)
    assert record.state is State.EXPIRED
    assert record.ending is not None
    assert record.ending["error"]["type"] == "JobExpired"


def test_a_job_started_in_time_does_not_expire(world: World) -> None:
    job_id = world.waiting(start_by_s=0.2)
    assert not world.has("deadlines", f"start|{job_id}")
    ride = world.ride()
    world.settle(ride, again(ride.records[0]))
    world.sweep()
    assert world.state(job_id) is State.WAITING


def test_an_alias_has_a_deadline_of_its_own(world: World) -> None:
    first = world.job(user_id="ann", idempotency_key="k", digest="d")
    alias = world.job(user_id="ann", idempotency_key="k", digest="d", in_canvas=True, deadline_s=60.0)
    world.past("deadlines", alias)
    world.sweep()
    assert (world.state(alias), world.state(first)) == (State.TIMED_OUT, State.QUEUED)
    assert not world.client.exists(f"ryla:aliases:{first}")
