"""Progress, ends, cancels and deadlines: what Celery reads of a job under way, and that an end is final."""

from __future__ import annotations

import json

import pytest
from celery import Celery
from celery.result import AsyncResult
from store_world import (
    META_PREFIX,
    META_TTL_S,
    POLL,
    SUBMIT,
    UNDER_WAY,
    World,
    again,
    collecting,
    completed,
    failed,
    retried,
)

from ryla_tasks.errors import JobNotFound
from ryla_tasks.jobs.record import CancelReason, Observed
from ryla_tasks.jobs.states import ENDS, POLLED, State
from ryla_tasks.store.answers import Claim


@pytest.fixture
def celery(world: World) -> Celery:
    """An app that knows nothing of ryla_tasks."""
    return Celery("host", backend=world.url)


def progress(world: World, job_id: str) -> dict[str, object]:
    meta = world.client.get(META_PREFIX + job_id)
    assert meta is not None
    result: dict[str, object] = json.loads(meta)["result"]
    return result


# --- PROGRESS ---


def test_a_plain_celery_app_reads_the_progress_of_every_step(world: World, celery: Celery) -> None:
    job_id = world.job()
    result: AsyncResult[object] = AsyncResult(job_id, app=celery)
    assert (result.state, result.info["phase"]) == ("PROGRESS", "queued")
    world.accept(world.claim(job_id).record)
    assert (result.state, result.info["phase"]) == ("PROGRESS", "waiting")
    ride = world.ride()
    (record,) = ride.records
    running = record.with_(observed=Observed(percent=41.5, message="Painting"))
    world.settle(ride, again(running, state=State.RUNNING, event="progress"))
    assert result.state == "PROGRESS"
    assert (result.info["percent"], result.info["message"]) == (41.5, "Painting")
    assert result.info["job_id"] == job_id
    assert not result.ready()


def test_progress_expires_as_celerys_results_do(world: World) -> None:
    job_id = world.waiting()
    assert world.client.ttl(META_PREFIX + job_id) == pytest.approx(META_TTL_S, abs=5)


@pytest.mark.parametrize("end", ["SUCCESS", "FAILURE", "REVOKED"])
def test_progress_is_never_written_over_an_end(world: World, celery: Celery, end: str) -> None:
    job_id = world.job()
    claim = world.claim(job_id)
    value = {"seed": 7} if end == "SUCCESS" else ValueError("broken")
    celery.backend.store_result(job_id, value, end)
    kept = world.client.get(META_PREFIX + job_id)
    world.accept(claim.record)
    ride = world.ride()
    world.settle(ride, again(ride.records[0], state=State.RUNNING, event="progress"))
    assert world.state(job_id) is State.RUNNING
    assert world.client.get(META_PREFIX + job_id) == kept
    assert AsyncResult(job_id, app=celery).state == end


def test_an_ending_settle_leaves_the_result_to_celery(world: World, celery: Celery) -> None:
    job_id = world.at(State.COMPLETED)
    assert AsyncResult(job_id, app=celery).state == "PROGRESS"


# --- ends ---


@pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED])
def test_an_end_is_final(world: World, end: State) -> None:
    job_id = world.waiting()
    ride = world.ride()
    (record,) = ride.records
    world.settle(ride, completed(record) if end is State.COMPLETED else failed(record))
    but = ("ryla:counters", "ryla:outbox", "ryla:targets")
    before = world.dump(but=but)
    for reason in CancelReason:
        assert world.store.cancel(job_id, reason) == ("over", ())
    for decision in (again(record, state=State.RUNNING, event="state"), failed(record), retried(record)):
        assert world.settle(ride, decision, last=False).counted == (False,)
    assert world.accept(record, "r-late").orphan
    assert world.store.cancel_sent(job_id) == (None, "")
    assert world.store.nudge(job_id) == (None, "")
    world.sweep()
    assert world.dump(but=but) == before
    assert world.state(job_id) is end


@pytest.mark.parametrize("state", UNDER_WAY)
def test_an_end_takes_the_job_out_of_everything_but_its_delivery(world: World, state: State) -> None:
    job_id = world.at(state, deadline_s=500, start_by_s=500)
    world.store.cancel(job_id)
    if state in POLLED:
        ride = world.ride()
        world.settle(ride, failed(ride.records[0]))
    elif state is State.SUBMITTING:
        world.past(f"due:{SUBMIT}", job_id)
        claim = world.claim(job_id)
        world.store.settle(claim, failed(claim.record))
    elif state is State.COLLECTING:
        claim = world.collect(job_id)
        world.store.settle(claim, failed(claim.record))
    assert world.state(job_id).ended
    for key in (f"due:{SUBMIT}", f"due:{POLL}"):
        assert not world.has(key, job_id)
    for member in (job_id, f"start|{job_id}"):
        assert not world.has("deadlines", member)
    assert world.client.zrange("ryla:outbox", 0, -1) == [f"deliver|{job_id}".encode()]
    assert world.has("due:deliver", job_id)
    assert not world.client.exists(f"ryla:input:{job_id}", f"ryla:output:{job_id}")
    assert world.client.get(f"ryla:envelope:{job_id}") == f"envelope of {job_id}".encode()


def test_a_remote_output_is_kept_until_the_job_has_ended(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    settled = world.settle(ride, collecting(ride.records[0], {"images": [1]}))
    assert [delivery.envelope for delivery in settled.envelopes] == [f"envelope of {job_id}"]
    claim = world.collect(job_id)
    assert claim.payload == {"images": [1]}
    world.store.settle(claim, completed(claim.record))
    assert world.collect(job_id).payload is None


def test_every_delivery_of_a_job_gets_the_same_end(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    claim = world.collect(job_id)
    world.store.settle(claim, completed(claim.record, {"seed": 1}))
    endings = []
    for _ in range(3):
        claim = world.collect(job_id)
        endings.append(claim.record.ending)
        world.store.release(claim)
    assert endings == [{"result": {"seed": 1}}] * 3
    assert world.record(job_id).deliveries == 4


def test_a_released_delivery_is_due_again_in_its_time_and_kept_in_the_outbox(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    assert world.store.release(world.collect(job_id, lease_s=100), in_s=7)
    assert world.due_in("due:deliver", job_id) == pytest.approx(7, abs=1)
    assert world.due_in("outbox", f"deliver|{job_id}") == pytest.approx(12, abs=1)


def test_a_claim_may_be_prolonged_by_who_still_has_it(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    claim = world.collect(job_id, lease_s=20.0)
    longer = world.store.prolong(claim, 600.0)
    assert longer is not None
    assert world.due_in("due:deliver", job_id) == pytest.approx(600, abs=2)
    assert world.due_in("outbox", f"deliver|{job_id}") > 599
    assert not any(world.store.settle(claim, completed(claim.record)).counted)
    assert world.store.prolong(claim, 600.0) is None
    assert all(world.store.settle(longer, completed(longer.record)).counted)


def test_who_ends_a_job_under_its_own_message_keeps_the_lease_and_the_outbox_waits_for_it(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    claim = world.collect(job_id, lease_s=60)
    assert world.store.settle(claim, completed(claim.record), keep=True).counted == (True,)
    assert not isinstance(world.store.claim_deliver(job_id=job_id, lease_s=5), Claim)
    assert world.due_in("outbox", f"deliver|{job_id}") == pytest.approx(60.5, abs=1)
    assert world.store.release(claim)


def test_delivered_ends_what_is_owed_and_starts_the_retention(world: World) -> None:
    job_id = world.at(State.COMPLETED, retention_s=900)
    assert world.store.delivered(job_id)
    assert not world.has("due:deliver", job_id)
    assert world.client.zcard("ryla:outbox") == 0
    assert not world.client.exists(f"ryla:envelope:{job_id}")
    assert world.store.delivery(job_id).envelope == ""
    assert world.due_in("expiry", job_id) == pytest.approx(900, abs=2)
    assert world.record(job_id).delivered == pytest.approx(world.now(), abs=2)


@pytest.mark.parametrize("state", UNDER_WAY)
def test_a_job_under_way_cannot_be_delivered(world: World, state: State) -> None:
    job_id = world.at(state)
    before = world.dump()
    assert not world.store.delivered(job_id)
    assert not world.store.delivered("nobody")
    assert world.dump() == before


def test_a_swept_record_leaves_nothing(world: World) -> None:
    job_id = world.job("swept-job", user_id="ann", idempotency_key="k", digest="d", deadline_s=60)
    world.accept(world.claim(job_id).record)
    world.store.nudge(job_id)
    ride = world.ride()
    world.settle(ride, collecting(ride.records[0], {"images": []}))
    claim = world.collect(job_id)
    world.store.settle(claim, completed(claim.record), keep=True)
    world.store.delivered(job_id)
    world.sweep()
    assert world.state(job_id) is State.COMPLETED
    world.past("expiry", job_id)
    world.sweep()
    world.client.delete(META_PREFIX + job_id)  # Celery's own, which expires by itself
    assert world.traces(job_id) == []
    with pytest.raises(JobNotFound):
        world.record(job_id)
    assert world.job(user_id="ann", idempotency_key="k", digest="other") != job_id


def test_sweeping_a_record_leaves_the_jobs_beside_it(world: World) -> None:
    gone, kept = world.at(State.COMPLETED, user_id="ann"), world.at(State.QUEUED, user_id="ann")
    world.store.delivered(gone)
    world.past("expiry", gone)
    before = {key: value for key, value in world.dump().items() if kept in key}
    world.sweep()
    assert {key: value for key, value in world.dump().items() if kept in key} == before
    assert world.client.zrange("ryla:idx:user:ann", 0, -1) == [kept.encode()]


# --- cancels ---

WORDS = {
    State.QUEUED: "ended", State.UNKNOWN: "ended", State.SUBMITTING: "asked", State.WAITING: "remote",
    State.STARTING: "remote", State.RUNNING: "remote", State.COLLECTING: "over", State.COMPLETED: "over",
    State.FAILED: "over",
}  # fmt: skip


@pytest.mark.parametrize(("state", "word"), WORDS.items())
def test_a_cancel_in_every_state(world: World, state: State, word: str) -> None:
    job_id = world.at(state)
    told = len(world.events(job_id))
    said, deliveries = world.store.cancel(job_id)
    record = world.record(job_id)
    assert said == word
    if word == "ended":
        assert [delivery.envelope for delivery in deliveries] == [f"envelope of {job_id}"]
        assert record.state is State.CANCELLED
        assert record.ending is not None
        assert record.ending["error"]["type"] == "JobCancelled"
        assert json.loads(world.events(job_id)[-1])["phase"] == "cancelled"
        assert len(world.events(job_id)) == told + 1
    else:
        assert deliveries == ()
        assert record.state is state
        assert record.cancel is (None if state in ENDS else CancelReason.USER)
        assert world.has("outbox", f"cancel|{job_id}") is (word == "remote")


def test_a_cancel_of_nobody_says_so_and_makes_nothing(world: World) -> None:
    assert world.store.cancel("nobody") == ("gone", ())
    assert world.dump() == {}


def test_a_cancel_of_a_job_with_a_distant_eta_ends_it_now(world: World) -> None:
    job_id = world.job(delay_s=3_600)
    assert world.store.cancel(job_id)[0] == "ended"
    assert not world.has(f"due:{SUBMIT}", job_id)


def test_the_first_reason_to_stop_stands(world: World) -> None:
    job_id = world.at(State.RUNNING)
    world.store.cancel(job_id, CancelReason.DEADLINE)
    world.store.cancel(job_id, CancelReason.USER)
    assert world.record(job_id).cancel is CancelReason.DEADLINE


def test_a_revoke_ends_a_queued_job_as_revoked(world: World) -> None:
    job_id = world.job()
    world.store.cancel(job_id, CancelReason.REVOKED)
    record = world.record(job_id)
    assert (record.state, record.cancel) == (State.CANCELLED, CancelReason.REVOKED)
    assert record.ending is not None
    assert record.ending["error"]["info"]["code"] == "revoked"


def test_a_result_found_after_a_cancel_is_kept(world: World) -> None:
    job_id = world.at(State.RUNNING)
    world.store.cancel(job_id)
    ride = world.ride()
    world.settle(ride, collecting(ride.records[0], {"images": []}))
    claim = world.collect(job_id)
    world.store.settle(claim, completed(claim.record))
    assert world.state(job_id) is State.COMPLETED


def test_a_cancel_that_was_sent_has_the_job_polled_at_once(world: World) -> None:
    job_id = world.waiting(gap_s=20)
    world.store.cancel(job_id)
    wake_s, _target = world.store.cancel_sent(job_id)
    assert wake_s == pytest.approx(0, abs=0.01)
    assert [record.job_id for record in world.ride().records] == [job_id]


def test_a_cancel_is_told_again_with_growing_gaps_until_the_job_has_ended(world: World) -> None:
    job_id = world.job()
    for _ in range(4):  # the gaps of a slow submit are not those of the cancel
        world.past("outbox", f"{SUBMIT}|{job_id}")
        world.sweep()
    world.accept(world.claim(job_id).record)
    world.store.cancel(job_id)
    member = f"cancel|{job_id}"
    gaps = [world.due_in("outbox", member)]
    assert world.sweep().messages == ()
    for _ in range(9):
        world.past("outbox", member)
        assert world.sweep().messages == (("cancel", job_id, ""),)
        world.store.cancel_sent(job_id)
        ride = world.ride()
        world.settle(ride, *(again(record) for record in ride.records))
        gaps.append(world.due_in("outbox", member))
    assert gaps == pytest.approx([5, 5, 10, 20, 40, 80, 160, 300, 300, 300], abs=1)
    ride = world.ride()
    world.settle(ride, failed(ride.records[0]))
    assert not world.has("outbox", member)


def test_a_cancel_is_not_told_any_more_once_there_is_a_result_to_fetch(world: World) -> None:
    job_id = world.at(State.RUNNING)
    world.store.cancel(job_id)
    ride = world.ride()
    world.settle(ride, collecting(ride.records[0]))
    assert world.store.cancel_sent(job_id) == (None, "")
    assert not world.has("outbox", f"cancel|{job_id}")


# --- deadlines ---


@pytest.mark.parametrize("state", UNDER_WAY)
def test_a_deadline_in_every_state(world: World, state: State) -> None:
    job_id = world.at(state, deadline_s=500)
    world.past("deadlines", job_id)
    messages = world.sweep().messages
    record = world.record(job_id)
    if state in (State.QUEUED, State.UNKNOWN):
        assert messages == (("deliver", job_id, f"envelope of {job_id}"),)
        assert record.state is State.TIMED_OUT
        assert record.ending is not None
        assert record.ending["error"]["info"]["code"] == "deadline"
    else:
        assert record.state is state
        assert messages == ((("cancel", job_id, ""),) if state in POLLED else ())
        assert record.cancel is CancelReason.DEADLINE
    assert not world.has("deadlines", job_id)


def test_an_ended_job_has_no_deadline(world: World) -> None:
    for state in (State.COMPLETED, State.FAILED):
        job_id = world.at(state, deadline_s=500)
        assert state in ENDS
        assert not world.has("deadlines", job_id)


def test_a_deadline_outlasts_a_retry(world: World) -> None:
    job_id = world.waiting(deadline_s=500)
    ride = world.ride()
    world.settle(ride, retried(ride.records[0], in_s=60))
    world.past("deadlines", job_id)
    world.sweep()
    assert world.state(job_id) is State.TIMED_OUT
