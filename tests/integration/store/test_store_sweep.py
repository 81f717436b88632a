"""The sweep: in bounded bites, what is overdue is handed out once, with growing gaps, until it is done."""

from __future__ import annotations

import threading

import pytest
from store_world import ENDPOINT, FREE, POLL, SUBMIT, TARGET, World, again, completed

from ryla_tasks.errors import JobNotFound
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Candidate, Refusal, Refused, Sweep
from ryla_tasks.store.targets import TargetStore
from tests.support.fleet import eventually


def test_an_overdue_message_is_sent_again_with_gaps_from_5_to_300_seconds(world: World) -> None:
    job_id = world.job()
    member = f"{SUBMIT}|{job_id}"
    assert world.sweep() == Sweep((), ())
    gaps = []
    for _ in range(9):
        world.past("outbox", member)
        assert world.sweep().messages == (("submit", job_id, f"envelope of {job_id}"),)
        assert world.sweep().messages == ()
        gaps.append(world.due_in("outbox", member))
    assert gaps == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300, 300], abs=1)


def test_the_gaps_start_anew_with_the_next_step(world: World) -> None:
    job_id = world.job()
    for _ in range(5):
        world.past("outbox", f"{SUBMIT}|{job_id}")
        world.sweep()
    world.store.cancel(job_id)
    member = f"deliver|{job_id}"
    assert world.due_in("outbox", member) == pytest.approx(5, abs=1)
    world.past("outbox", member)
    world.sweep()
    assert world.due_in("outbox", member) == pytest.approx(5, abs=1)


def test_a_job_that_moved_on_gets_no_message_of_its_old_step(world: World) -> None:
    job_id = world.waiting()
    assert not world.has("outbox", f"{SUBMIT}|{job_id}")
    world.at(State.COLLECTING)
    assert [member.split(b"|")[0] for member in world.client.zrange("ryla:outbox", 0, -1)] == [b"deliver"]


def test_a_sweep_hands_out_a_bounded_number_of_each_sort(world: World) -> None:
    for _ in range(5):
        world.past("outbox", f"{SUBMIT}|{world.job()}")
    for _ in range(5):
        world.past("deadlines", world.waiting(deadline_s=500))
    for _ in range(5):
        job_id = world.job()
        world.store.cancel(job_id)
        world.store.delivered(job_id)
        world.past("expiry", job_id)
    assert len(world.sweep(most=2).messages) == 4
    assert world.client.zcard("ryla:expiry") == 3
    for _ in range(2):
        world.sweep(most=2)
    assert world.client.zcard("ryla:expiry") == 0
    assert world.client.zcard("ryla:deadlines") == 0
    assert world.sweep().messages == ()


def test_polls_are_woken_however_many_messages_are_overdue(world: World) -> None:
    for _ in range(3):
        world.past("outbox", f"{SUBMIT}|{world.job()}")
    world.past(f"due:{POLL}", world.waiting())
    swept = world.sweep(most=1)
    assert swept.wakes == (TARGET,)
    assert len(swept.messages) == 1


def test_two_sweepers_at_once_never_hand_out_the_same(world: World) -> None:
    # Not in line yet: of a line whose first job is overdue, a sweep wakes the line, and its jobs get no messages.
    jobs = {world.job(delay_s=600) for _ in range(300)}
    for job_id in jobs:
        world.past("outbox", f"{SUBMIT}|{job_id}")
    targets = [f"runpod:t{number}" for number in range(20)]
    for target in targets:
        claim = world.store.claim_submit(ENDPOINT, [Candidate(target, FREE)], job_id=world.job(), lease_s=5)
        world.accept(claim.record)  # type: ignore[union-attr]
        world.past(f"due:poll:{target}", claim.record.job_id)  # type: ignore[union-attr]
    swept: list[Sweep] = []
    start = threading.Barrier(3)

    def sweeper() -> None:
        store = world.new_store()
        start.wait(10)
        swept.extend(store.sweep(grace_s=1, most=40, most_resends=64) for _ in range(6))

    threads = [threading.Thread(target=sweeper) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    handed = [job_id for sweep in swept for _kind, job_id, _envelope in sweep.messages]
    woken = [target for sweep in swept for target in sweep.wakes]
    assert len(swept) == 18
    assert sorted(handed) == sorted(jobs)
    assert sorted(woken) == sorted(targets)


def test_a_target_whose_poll_is_late_is_woken_once_in_five_seconds(world: World) -> None:
    job_id = world.waiting()
    world.past(f"due:{POLL}", job_id, by_s=0.5)
    assert world.sweep(grace_s=1).wakes == ()
    world.past(f"due:{POLL}", job_id, by_s=1.5)
    assert world.sweep(grace_s=1).wakes == (TARGET,)
    assert world.sweep(grace_s=1).wakes == ()
    pushed = world.client.hget("ryla:wake_pushed", TARGET)
    assert pushed is not None
    assert int(pushed) / 1e6 - world.now() == pytest.approx(5, abs=0.5)
    world.client.hset("ryla:wake_pushed", TARGET, round((world.now() - 1) * 1e6))
    assert world.sweep(grace_s=1).wakes == (TARGET,)


def test_the_jobs_of_a_ride_that_died_are_polled_again(world: World) -> None:
    world.waiting()
    world.ride(lease_s=0.05)
    assert eventually(lambda: world.sweep(grace_s=0.05).wakes) == (TARGET,)
    assert len(world.ride().records) == 1


def test_a_message_sent_by_the_sweep_is_the_outstanding_one(world: World) -> None:
    job_id = world.waiting(gap_s=30)
    world.past(f"due:{POLL}", job_id)
    assert world.sweep().wakes == (TARGET,)
    assert world.accept(world.claim(world.job()).record, gap_s=1).wake_s is None


def test_a_target_without_jobs_is_forgotten(world: World) -> None:
    world.past(f"due:{POLL}", world.waiting())
    assert world.sweep().wakes == (TARGET,)
    ride = world.ride()
    world.settle(ride, completed(ride.records[0]))
    world.sweep()
    assert [key for key in world.dump() if key in ("ryla:targets", "ryla:wake", "ryla:wake_pushed")] == []
    world.waiting()
    ride = world.ride()
    assert world.settle(ride, again(ride.records[0], 2)).wake_s == pytest.approx(2, abs=0.1)


def test_a_delivery_that_nobody_takes_is_given_up_and_told_and_may_still_come(world: World) -> None:
    job_id = world.at(State.COMPLETED, retention_s=900)
    member = f"deliver|{job_id}"
    for _ in range(2):
        world.past("outbox", member)
        assert world.sweep(most_resends=2).messages == (("deliver", job_id, f"envelope of {job_id}"),)
    world.past("outbox", member)
    assert world.sweep(most_resends=2).messages == ()
    assert world.events(job_id)[-1] == b'{"type":"undelivered"}'
    assert world.client.hget("ryla:counters", "undelivered") == b"1"
    (alert,) = TargetStore(world.client, prefix="ryla").alerts()
    assert (alert.type, alert.data) == ("undelivered", {"job_id": job_id, "endpoint": "image"})
    assert not world.has("outbox", member)
    assert world.due_in("expiry", job_id) == pytest.approx(900, abs=2)
    assert world.collect(job_id).record.state is State.COMPLETED
    assert world.store.delivered(job_id)


def test_an_undelivered_job_leaves_nothing_to_claim_when_its_record_goes(world: World) -> None:
    job_id = world.at(State.COMPLETED)
    world.past("outbox", f"deliver|{job_id}")
    world.sweep(most_resends=0)
    world.past("expiry", job_id)
    world.sweep()
    with pytest.raises(JobNotFound):
        world.record(job_id)
    assert world.store.claim_deliver(job_id=None, lease_s=5) == Refused(Refusal.NONE)
    assert world.store.claim_deliver(job_id=job_id, lease_s=5) == Refused(Refusal.GONE)


def test_an_undelivered_job_that_came_without_a_record_leaves_a_tombstone(world: World) -> None:
    job_id = world.at(State.COMPLETED, recorded=False)
    world.past("outbox", f"deliver|{job_id}")
    world.sweep(most_resends=0)
    assert world.client.exists(f"ryla:tomb:{job_id}")


def test_a_submit_is_sent_again_however_often(world: World) -> None:
    job_id = world.job()
    for _ in range(4):
        world.past("outbox", f"{SUBMIT}|{job_id}")
        assert len(world.sweep(most_resends=2).messages) == 1


def test_a_message_of_a_job_without_a_record_is_dropped(world: World) -> None:
    world.client.zadd("ryla:outbox", {f"{SUBMIT}|ghost": 1000})
    assert world.sweep().messages == ()
    assert world.dump() == {}
