"""Poll rides: claimed together within fleet-wide limits, one outstanding message for a target, nudges, holds."""

from __future__ import annotations

import threading

import pytest
from store_world import FREE, POLL, TARGET, World, again, failed, retried

from ryla_tasks.jobs.record import CancelReason
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Candidate, Rate, Ride
from ryla_tasks.store.jobs import JobStore
from tests.support.fleet import eventually


def settled_again(world: World, ride: Ride, in_s: float) -> float | None:
    """Settle a whole ride to be polled again; the delay of the message to send."""
    return world.settle(ride, *(again(record, in_s) for record in ride.records)).wake_s


def test_a_ride_takes_at_most_so_many_and_leaves_the_rest_to_the_next(world: World) -> None:
    jobs = {world.waiting() for _ in range(5)}
    first = world.ride(most=3)
    assert len(first.records) == 3
    assert first.in_flight == 5
    second = world.ride(most=3)
    assert len(second.records) == 2
    assert {record.job_id for record in first.records + second.records} == jobs


def test_after_a_full_ride_the_last_settle_asks_for_the_next_message_at_once(world: World) -> None:
    for _ in range(5):
        world.waiting()
    assert settled_again(world, world.ride(most=3), 10) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("jobs", "rate", "spread", "helped"),
    [
        pytest.param(6, FREE, True, True, id="another ride is due"),
        pytest.param(5, FREE, True, False, id="less than that"),
        pytest.param(6, FREE, False, False, id="not asked for"),
        pytest.param(6, Rate(per_s=1.0, burst=5), True, False, id="the limits allow none"),
    ],
)
def test_a_claim_that_leaves_as_much_again_overdue_wants_another_process_to_help(
    world: World, jobs: int, rate: Rate, spread: bool, helped: bool
) -> None:
    for _ in range(jobs):
        world.past(f"due:{POLL}", world.waiting())
    ride = world.store.claim_polls(TARGET, most=3, lease_s=8, rate=rate, most_rides=10, spread=spread)
    assert len(ride.records) == 3
    assert ride.wake_s == (pytest.approx(0, abs=0.01) if helped else None)
    if helped:
        assert len(world.ride(most=3, store=world.new_store()).records) == 3


def test_at_a_busy_target_what_the_limits_allow_meanwhile_goes_by_one_message(world: World) -> None:
    rate = Rate(per_s=100.0, burst=1)
    for _ in range(130):
        world.waiting()
    assert len(world.ride(rate=rate).records) == 1
    refused = world.ride(rate=rate)
    assert refused.records == ()
    assert refused.wake_s == pytest.approx(0.1, abs=0.01)


def test_the_jobs_due_first_ride_first(world: World) -> None:
    jobs = [world.waiting() for _ in range(4)]
    for job_id, late_s in zip(jobs, (5, 20, 10, 15), strict=True):
        world.past(f"due:{POLL}", job_id, late_s)
    assert [record.job_id for record in world.ride(most=2).records] == [jobs[1], jobs[3]]


def test_a_ride_takes_the_jobs_of_its_target_alone(world: World) -> None:
    here, there = world.waiting(), world.job()
    claim = world.store.claim_submit("image", [Candidate("runpod:other", FREE)], job_id=there, lease_s=5)
    world.accept(claim.record)  # type: ignore[union-attr]
    assert [record.job_id for record in world.ride().records] == [here]
    assert [record.job_id for record in world.ride(target="runpod:other").records] == [there]


# --- limits of the whole fleet ---


def test_the_rate_holds_for_all_stores_together_in_every_window(world: World) -> None:
    rate = Rate(per_s=60.0, burst=6)
    for _ in range(30):
        world.waiting()
    calls: list[tuple[float, int]] = []
    end = world.now() + 1.5

    def poll(store: JobStore) -> None:
        while (ride := world.ride(store=store, rate=rate, most=5)).now < end:
            if ride.records:
                calls.append((ride.now, len(ride.records)))
                pairs = [(record, again(record)) for record in ride.records]
                store.settle_ride(ride, pairs, last=True)

    pollers = [threading.Thread(target=poll, args=(world.new_store(),)) for _ in range(2)]
    for poller in pollers:
        poller.start()
    for poller in pollers:
        poller.join(20)
    calls.sort()
    for place, (start, _) in enumerate(calls):
        for window in (0.05, 0.2, 0.5, 1.0):
            granted = sum(number for at, number in calls[place:] if at < start + window)
            assert granted <= rate.burst + rate.per_s * window + 0.01, (window, granted)
    assert sum(number for _, number in calls) >= 0.8 * 1.5 * rate.per_s


def test_a_ride_takes_no_more_than_the_rate_has_room_for_and_says_when_it_has(world: World) -> None:
    rate = Rate(per_s=2.0, burst=3)
    for _ in range(5):
        world.waiting()
    assert len(world.ride(rate=rate).records) == 3
    second = world.ride(rate=rate)
    assert second.records == ()
    assert second.wake_s == pytest.approx(0.5, abs=0.1)


def test_no_more_rides_than_so_many_are_under_way_at_a_target(world: World) -> None:
    for _ in range(3):
        world.waiting()
    first = world.ride(most=1, most_rides=1)
    other = world.new_store()
    refused = world.ride(most=1, most_rides=1, store=other)
    assert refused.records == ()
    assert refused.wake_s == pytest.approx(0.25, abs=0.01)
    settled_again(world, first, 60)
    assert len(world.ride(most=1, most_rides=1, store=other).records) == 1


def test_the_place_of_a_ride_that_died_is_free_when_its_lease_is_over(world: World) -> None:
    for _ in range(2):
        world.waiting()
    world.ride(most=1, most_rides=1, lease_s=0.05)
    assert eventually(lambda: world.ride(most=1, most_rides=1).records)


# --- one outstanding message a target ---


def test_a_message_is_sent_only_where_it_is_earlier_than_the_outstanding_one(world: World) -> None:
    def accepted(gap_s: float) -> float | None:
        return world.accept(world.claim(world.job()).record, gap_s=gap_s).wake_s

    assert accepted(10.0) == pytest.approx(10, abs=0.1)
    assert accepted(10.0) is None
    assert accepted(20.0) is None
    assert accepted(3.0) == pytest.approx(3, abs=0.1)
    assert accepted(3.0) is None


def test_no_countdown_is_longer_than_thirty_seconds(world: World) -> None:
    accepted = world.accept(world.claim(world.job()).record, gap_s=300)
    assert accepted.wake_s == pytest.approx(30, abs=0.1)


def test_the_last_settle_of_a_ride_plans_the_next_and_the_ones_before_do_not(world: World) -> None:
    for _ in range(2):
        world.waiting()
    ride = world.ride()
    first, second = ride.records
    assert world.settle(ride, again(first, 9), last=False).wake_s is None
    assert world.settle(ride, again(second, 5), last=True).wake_s == pytest.approx(5, abs=0.1)


def test_a_message_that_comes_too_early_is_not_passed_on(world: World) -> None:
    world.waiting(gap_s=10)
    before = world.dump()
    ride = world.ride()
    assert ride.records == ()
    assert ride.wake_s is None
    assert world.dump() == before


def test_a_message_in_time_that_finds_others_at_work_waits_for_their_lease(world: World) -> None:
    world.waiting()
    world.ride(lease_s=8)
    late = world.ride()
    assert late.records == ()
    assert late.wake_s == pytest.approx(8, abs=0.2)


def test_a_message_turned_away_during_a_ride_is_made_up_for_at_its_end(world: World) -> None:
    first = world.waiting()
    ride = world.ride()
    assert [record.job_id for record in ride.records] == [first]
    accepted = world.accept(world.claim(world.job()).record)
    assert accepted.wake_s == pytest.approx(0, abs=0.01)
    # Its message comes while the process rides, and is dropped there.
    assert settled_again(world, ride, 10) == pytest.approx(0, abs=0.01)
    assert len(world.ride().records) == 1


def test_a_target_without_jobs_wants_no_message(world: World) -> None:
    world.waiting()
    ride = world.ride()
    assert world.settle(ride, failed(ride.records[0])).wake_s is None
    assert world.ride().wake_s is None


# --- nudges ---


def test_a_nudge_without_a_lease_makes_the_job_due_now(world: World) -> None:
    job_id = world.waiting(gap_s=20)
    assert world.store.nudge(job_id) == (pytest.approx(0, abs=0.01), TARGET)
    assert [record.job_id for record in world.ride().records] == [job_id]


def test_a_nudge_takes_no_lease_and_no_fence_from_a_holder(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    assert world.store.nudge(job_id) == (None, TARGET)
    assert world.ride().records == ()
    assert world.settle(ride, again(ride.records[0], 20)).counted == (True,)


def test_a_nudge_during_a_lease_makes_the_settle_due_at_once_and_only_that_one(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    world.store.nudge(job_id)
    assert settled_again(world, ride, 20) == pytest.approx(0, abs=0.01)
    ride = world.ride()
    assert [record.job_id for record in ride.records] == [job_id]
    assert settled_again(world, ride, 20) == pytest.approx(20, abs=0.1)


def test_a_nudge_of_a_job_that_ends_leaves_nothing_behind(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    world.store.nudge(job_id)
    world.settle(ride, failed(ride.records[0]))
    assert not world.client.exists(f"ryla:nudged:{TARGET}")


@pytest.mark.parametrize("state", [State.QUEUED, State.SUBMITTING, State.COLLECTING, State.COMPLETED])
def test_a_nudge_of_a_job_that_is_not_polled_changes_nothing(world: World, state: State) -> None:
    job_id = world.at(state)
    before = world.dump()
    assert world.store.nudge(job_id) == (None, "")
    assert world.store.nudge("nobody") == (None, "")
    assert world.dump() == before


# --- stragglers and holds ---


def test_the_late_answer_of_a_straggler_loses_the_fence(world: World) -> None:
    quick, slow = world.waiting(), world.waiting()
    ride = world.ride()
    records = {record.job_id: record for record in ride.records}
    world.settle(ride, again(records[quick], 1), last=False)
    world.settle(ride, again(records[slow], 2), last=True)
    before = world.dump()
    assert world.settle(ride, failed(records[slow]), last=False).counted == (False,)
    assert world.dump() == before


def test_a_429_holds_all_claims_of_the_target_until_its_time(world: World) -> None:
    for _ in range(3):
        world.waiting()
    ride = world.ride(most=1)
    settled = world.settle(ride, again(ride.records[0], 2.0), hold_s=2.0)
    assert settled.wake_s == pytest.approx(0, abs=0.01)
    held = world.ride(store=world.new_store())
    assert held.records == ()
    assert held.wake_s == pytest.approx(2, abs=0.1)
    world.client.hset("ryla:not_before", f"{TARGET} status", round((world.now() - 1) * 1e6))
    assert len(world.ride().records) == 2


def test_a_shorter_hold_does_not_shorten_a_longer_one(world: World) -> None:
    world.waiting()
    world.store.hold(TARGET, "status", 7.0)
    world.store.hold(TARGET, "status", 1.0)
    assert world.ride().wake_s == pytest.approx(7, abs=0.1)


def test_a_stop_asked_for_during_a_ride_prevents_the_next_attempt(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    assert world.store.cancel(job_id)[0] == "remote"
    settled = world.settle(ride, retried(ride.records[0]))
    assert settled.envelopes == ()
    assert world.state(job_id) is State.CANCELLED
    assert world.sweep().messages == (("deliver", job_id, f"envelope of {job_id}"),)


def test_an_end_seen_by_a_ride_that_did_not_know_of_the_stop_is_the_wanted_one(world: World) -> None:
    job_id = world.waiting()
    ride = world.ride()
    world.store.cancel(job_id, CancelReason.DEADLINE)
    settled = world.settle(ride, failed(ride.records[0]))
    assert [delivery.job_id for delivery in settled.envelopes] == [job_id]
    record = world.record(job_id)
    assert record.state is State.TIMED_OUT
    assert record.ending is not None
    assert record.ending["error"]["type"] == "JobTimedOut"
