"""What the fleet shares about a target: who may ask /health, the watch, the history, and alerts told once."""

from __future__ import annotations

import pytest
from store_world import TARGET, World, again, collecting, completed, failed, retried

from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import Sample
from ryla_tasks.jobs.stuck import Watch
from ryla_tasks.store.targets import TargetStore


@pytest.fixture
def targets(world: World) -> TargetStore:
    return TargetStore(world.client, prefix="ryla")


def samples(targets: TargetStore, target: str = TARGET) -> tuple[Sample, ...]:
    found = targets.look(target, samples=True).samples
    assert found is not None
    return found


def test_one_of_the_whole_fleet_may_ask_health_in_a_time(world: World, targets: TargetStore) -> None:
    other = TargetStore(world.new_store().client, prefix="ryla")
    rights = [store.look(TARGET, ask_every_s=30).right for store in (targets, other, targets, other)]
    assert [bool(right) for right in rights] == [True, False, False, False]
    assert 29.0 < world.client.pttl(f"ryla:asked:{TARGET}") / 1000 <= 30.0
    assert other.look("runpod:else", ask_every_s=30).right
    world.client.delete(f"ryla:asked:{TARGET}")
    assert other.look(TARGET, ask_every_s=30).right not in ("", rights[0])


def test_looking_takes_no_right(world: World, targets: TargetStore) -> None:
    look = targets.look(TARGET)
    assert (look.right, look.watch, look.samples) == ("", None, None)
    assert abs(look.now - world.now()) < 1.0
    assert world.dump() == {}


def test_a_watch_is_kept_by_whoever_has_the_right(world: World, targets: TargetStore) -> None:
    look = targets.look(TARGET, ask_every_s=30)
    watch = Watch(look.now, Health(look.now, {"inQueue": 1}, {"initializing": 1}))
    assert targets.record_health(TARGET, look.right, watch)
    assert targets.look(TARGET).watch == watch
    assert world.client.ttl(f"ryla:health:{TARGET}") > 86_400


def test_an_answer_that_comes_after_the_right_is_over_is_not_kept(world: World, targets: TargetStore) -> None:
    late = targets.look(TARGET, ask_every_s=30)
    world.client.delete(f"ryla:asked:{TARGET}")
    assert not targets.record_health(TARGET, late.right, Watch(late.now))
    newer = targets.look(TARGET, ask_every_s=30)
    assert not targets.record_health(TARGET, late.right, Watch(late.now))
    assert targets.record_health(TARGET, newer.right, Watch(newer.now))
    assert targets.look(TARGET).watch == Watch(newer.now)


def test_an_alert_is_told_once_while_it_goes_on_and_again_after_a_quiet_time(
    world: World, targets: TargetStore
) -> None:
    event = {"type": "stuck", "target": TARGET}
    told = [targets.alert("stuck:a", event, quiet_s=900) for _ in range(3)]
    assert told == [True, False, False]
    assert targets.alert("stuck:b", event, quiet_s=900)
    world.client.pexpire("ryla:alerted:stuck:a", 5_000)
    assert not targets.alert("stuck:a", event, quiet_s=900)
    assert world.client.pttl("ryla:alerted:stuck:a") > 800_000, "it goes on: the quiet time counts from its end"
    world.client.delete("ryla:alerted:stuck:a")
    assert targets.alert("stuck:a", event, quiet_s=900)
    alerts = list(targets.alerts())
    assert [(alert.type, alert.data) for alert in alerts] == [("stuck", {"target": TARGET})] * 3
    assert abs(alerts[0].at - world.now()) < 5.0
    assert world.client.hget("ryla:counters", "alerts") == b"3"


def test_alerts_are_capped(world: World, targets: TargetStore) -> None:
    for number in range(1_300):
        targets.alert(f"n:{number}", {"type": "stuck"}, quiet_s=0.001)
    assert 1_000 <= world.client.xlen("ryla:alerts") <= 1_200


def test_an_attempt_leaves_its_sample_with_the_settle_that_ends_it(world: World, targets: TargetStore) -> None:
    done, broken = world.waiting("done"), world.waiting("broken")
    ride = world.ride()
    records = {record.job_id: record for record in ride.records}
    world.settle(ride, again(records[done], state=State.RUNNING), failed(records[broken]))
    assert [sample.outcome for sample in samples(targets)] == [State.FAILED]
    ride = world.ride()
    world.settle(ride, collecting(ride.records[0]))
    assert len(samples(targets)) == 1
    claim = world.collect(done)
    world.store.settle(claim, completed(claim.record, {"timings": {"waited_s": 3.0, "executed_s": 2.0}}))
    newest = samples(targets)[0]
    assert (newest.outcome, newest.delay_s, newest.run_s) == (State.COMPLETED, 3.0, 2.0)
    assert abs(newest.sent - world.now()) < 10.0


def test_a_retry_leaves_the_sample_of_the_failed_attempt(world: World, targets: TargetStore) -> None:
    world.waiting()
    ride = world.ride()
    world.settle(ride, retried(ride.records[0]))
    assert [sample.outcome for sample in samples(targets)] == [State.FAILED]


def test_a_settle_that_lost_its_fence_leaves_no_sample(world: World, targets: TargetStore) -> None:
    job_id = world.waiting()
    ride = world.ride()
    world.past("due:poll:" + TARGET, job_id)
    world.ride()
    assert world.settle(ride, failed(ride.records[0])).counted == (False,)
    assert samples(targets) == ()


def test_the_history_is_capped(world: World, targets: TargetStore) -> None:
    world.client.lpush(f"ryla:stats:{TARGET}", *[Sample(float(n), State.COMPLETED).to_json() for n in range(700)])
    world.waiting()
    ride = world.ride()
    world.settle(ride, failed(ride.records[0]))
    kept = samples(targets)
    assert (len(kept), kept[0].outcome, kept[1].sent) == (500, State.FAILED, 699.0)
