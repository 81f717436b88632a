"""Fallbacks in the store: kept with the record, counted, and taken in one step with the settle that wants them."""

from __future__ import annotations

import json

import pytest
from store_world import ENDPOINT, World, collecting, completed, failed, retried

from ryla_tasks.jobs.alternative import Alternative
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.lifecycle import Decision, Step, Surroundings, advance
from ryla_tasks.jobs.observation import Seen
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Creation
from ryla_tasks.store.cleaning import clean
from ryla_tasks.store.codec import unpack_input

LINE = Fallback(FallbackKind.ENDPOINT, "runpod:a", "", "no_worker", attempt=1, error={"code": "x"})


def elsewhere(record: JobRecord, line: Fallback = LINE) -> Decision:
    """A new attempt with the same input, which is no retry."""
    after = record.with_(state=State.QUEUED, fallbacks=(*record.fallbacks, line), remote_id="", submitted=0.0)
    return Decision(after, Step.SUBMIT, 0.0, "fallback")


def counter(world: World, name: str) -> int:
    return int(world.client.hget("ryla:counters", name) or 0)


def test_a_fallback_is_kept_told_and_counted_and_is_no_retry(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    settled = world.settle(ride, elsewhere(ride.records[0]))
    assert [delivery.job_id for delivery in settled.envelopes] == [job_id]
    record = world.record(job_id)
    assert (record.state, record.fallbacks, record.retries) == (State.QUEUED, (LINE,), 0)
    assert (record.remote_id, record.submitted) == ("", 0.0)
    assert (counter(world, "fallbacks"), counter(world, "retries")) == (1, 0)
    told = json.loads(world.events(job_id)[-1])
    assert {name: told[name] for name in ("type", "kind", "from", "why")} == {
        "type": "fallback", "kind": "endpoint", "from": "runpod:a", "why": "no_worker",
    }  # fmt: skip
    assert "to" not in told, "which target comes next is decided when it is submitted"
    assert (told["phase"], told["attempt"]) == ("queued", 2)


# --- the inputs of fallbacks ---

FIRST = {"prompt": "first"}
OTHERS = ({"prompt": "second " * 300}, {"prompt": "third"})
MISSING_NODE = Seen(RemoteJob("r", RemoteStatus.FAILED, "FAILED", error="Cannot execute because node X does not exist"))


def alternative(place: int, *, label: str = "", own: int = 0) -> Alternative:
    return Alternative(
        FallbackKind.WORKFLOW, "first", f"input-{place}", ("missing_node",), place, 5.0,
        label=label or f"input-{place}", seed=place, expected_images=place + 1, own=own,
    )  # fmt: skip


def job_with_fallbacks(world: World, job_id: str = "", **options: object) -> str:
    return world.job(
        job_id,
        input_json=json.dumps(FIRST),
        other_inputs=tuple(map(json.dumps, OTHERS)),
        fallbacks=(alternative(0), alternative(1)),
        **options,
    )


def at_the_cloud(world: World, job_id: str) -> object:
    """Claim and accept; returns the input that the claim gave."""
    claim = world.claim(job_id)
    world.accept(claim.record, f"r-{job_id}-{claim.record.attempt}")
    return claim.payload


def fall_back(world: World, job_id: str) -> Decision:
    """Have the attempt fail, and carry out what the core makes of it."""
    ride = world.ride()
    (record,) = (record for record in ride.records if record.job_id == job_id)
    decision = advance(record, MISSING_NODE, ride.clock(), Surroundings())
    assert world.settle(ride, decision).counted == (True,)
    return decision


def test_each_attempt_gets_the_input_that_the_record_tells_of(world: World) -> None:
    job_id = job_with_fallbacks(world)
    assert at_the_cloud(world, job_id) == FIRST
    for number, wanted in enumerate(OTHERS):
        decision = fall_back(world, job_id)
        record = world.record(job_id)
        assert record.spec == decision.record.spec
        assert (record.spec.label, record.spec.seed, record.spec.expected_images) == (
            f"input-{number}", number, number + 1,
        )  # fmt: skip
        assert at_the_cloud(world, job_id) == wanted
    assert fall_back(world, job_id).record.state is State.FAILED
    assert [line.to for line in world.record(job_id).fallbacks] == ["input-0", "input-1"]
    assert (counter(world, "fallbacks"), counter(world, "retries"), counter(world, "attempts")) == (2, 0, 3)


def test_a_retry_keeps_the_input_of_the_fallback_and_its_count_begins_anew(world: World) -> None:
    job_id = job_with_fallbacks(world)
    at_the_cloud(world, job_id)
    ride = world.ride()
    world.settle(ride, retried(ride.records[0]))
    assert world.record(job_id).retries == 1
    assert at_the_cloud(world, job_id) == FIRST
    fall_back(world, job_id)
    assert world.record(job_id).retries == 0
    assert at_the_cloud(world, job_id) == OTHERS[0]
    ride = world.ride()
    world.settle(ride, retried(ride.records[0]))
    assert (world.record(job_id).retries, counter(world, "retries"), counter(world, "fallbacks")) == (1, 2, 1)
    assert at_the_cloud(world, job_id) == OTHERS[0]


def test_a_settle_without_its_fence_takes_no_fallback(world: World) -> None:
    job_id = job_with_fallbacks(world)
    at_the_cloud(world, job_id)
    ride = world.ride(lease_s=0.0)
    late = advance(ride.records[0], MISSING_NODE, ride.clock(), Surroundings())
    decision = fall_back(world, job_id)
    before = world.dump()
    assert world.settle(ride, late, last=False).counted == (False,)
    assert world.dump() == before
    assert decision.fallback_input == 0
    assert counter(world, "fallbacks") == 1


def test_a_job_that_was_asked_to_stop_meanwhile_takes_none(world: World) -> None:
    job_id = job_with_fallbacks(world)
    at_the_cloud(world, job_id)
    ride = world.ride()
    assert world.store.cancel(job_id, CancelReason.USER)[0] == "remote"
    world.settle(ride, advance(ride.records[0], MISSING_NODE, ride.clock(), Surroundings()))
    record = world.record(job_id)
    assert (record.state, record.fallbacks) == (State.CANCELLED, ())
    assert counter(world, "fallbacks") == 0
    assert not world.client.exists(f"ryla:fallbacks:{job_id}", f"ryla:input:{job_id}")


def test_a_late_accept_of_the_attempt_before_is_an_orphan(world: World) -> None:
    job_id = job_with_fallbacks(world)
    claim = world.claim(job_id)
    world.accept(claim.record, "r-1")
    fall_back(world, job_id)
    assert world.accept(claim.record, "r-late").orphan
    assert world.claim(job_id).payload == OTHERS[0]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_the_other_inputs_go_with_the_end_of_the_job(world: World, end: str) -> None:
    job_id = job_with_fallbacks(world)
    at_the_cloud(world, job_id)
    assert world.client.llen(f"ryla:fallbacks:{job_id}") == 2
    ride = world.ride()
    if end == "completed":
        world.settle(ride, collecting(ride.records[0]))
        claim = world.collect(job_id)
        world.store.settle(claim, completed(claim.record))
    else:
        if end == "cancelled":
            world.store.cancel(job_id)
        world.settle(ride, failed(ride.records[0]))
    assert str(world.state(job_id)) == end
    assert not world.client.exists(f"ryla:fallbacks:{job_id}")


def test_a_message_still_goes_out_with_a_record_that_has_other_inputs(world: World) -> None:
    job_with_fallbacks(world, "j", message=("queue", "message"))
    assert world.client.lrange("queue", 0, -1) == [b"message"]
    assert [unpack_input(one) for one in world.client.lrange("ryla:fallbacks:j", 0, -1)] == list(OTHERS)
    world.job("plain", message=("queue", "more"))
    assert world.client.lrange("queue", 0, -1) == [b"more", b"message"]
    assert [key for key in world.dump() if key.startswith("ryla:fallbacks")] == ["ryla:fallbacks:j"]


def test_an_alias_keeps_no_inputs_and_ends_as_its_twin(world: World) -> None:
    first = job_with_fallbacks(world, "one", idempotency_key="k", digest="d")
    made = world.make("two", idempotency_key="k", digest="d", in_canvas=True, other_inputs=("{}",))
    assert made.word is Creation.ALIAS
    assert not world.client.exists("ryla:fallbacks:two")
    at_the_cloud(world, first)
    fall_back(world, first)
    at_the_cloud(world, first)
    ride = world.ride()
    world.settle(ride, failed(ride.records[0]))
    assert world.state("two") is State.FAILED


def test_without_its_input_a_fallback_is_not_sent_with_that_of_another(world: World) -> None:
    """Somebody deleted it by hand."""
    job_id = job_with_fallbacks(world)
    at_the_cloud(world, job_id)
    world.client.delete(f"ryla:fallbacks:{job_id}")
    fall_back(world, job_id)
    assert world.claim(job_id).payload is None


def test_a_twin_of_an_input_that_was_replaced_is_not_kept(world: World) -> None:
    """Its webhook came after the record was read, and the fallback was taken in between."""
    job_id = job_with_fallbacks(world)
    at_the_cloud(world, job_id)
    before = world.record(job_id)
    fall_back(world, job_id)
    assert world.store.adopt_twin(before, before.target, "r-twin", 0.0) == ("over", ())
    assert world.state(job_id) is State.QUEUED
    word, _deliveries = world.store.adopt_twin(world.record(job_id), before.target, "r-twin", 0.0)
    assert word == "kept"


def test_inputs_without_a_record_are_cleaned_up(world: World) -> None:
    job_id = job_with_fallbacks(world)
    world.client.delete(f"ryla:job:{job_id}")
    assert clean(world.client, "ryla")["keys"] == 4  # input, fallbacks, envelope, events
    assert not world.client.exists(f"ryla:fallbacks:{job_id}")


def test_a_dropped_record_takes_them_along(world: World) -> None:
    job_id = job_with_fallbacks(world)
    world.client.zadd("ryla:expiry", {job_id: 0})
    world.sweep()
    assert not world.client.exists(f"ryla:fallbacks:{job_id}", f"ryla:job:{job_id}")


def test_fallbacks_do_not_mix_up_the_places_of_jobs(world: World) -> None:
    job_id = job_with_fallbacks(world)
    at_the_cloud(world, job_id)
    fall_back(world, job_id)
    assert world.has(f"due:submit:{ENDPOINT}", job_id)
    assert world.client.zrange("ryla:idx:state:queued", 0, -1) == [job_id.encode()]
    assert world.client.zrange("ryla:outbox", 0, -1) == [f"submit:{ENDPOINT}|{job_id}".encode()]
