"""A stop that is asked for while a job counts as finished, although it is not."""

from __future__ import annotations

from store_world import World

from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.record import CancelReason
from ryla_tasks.jobs.states import State


def test_a_stop_asked_while_collecting_is_carried_out_if_the_job_runs_on(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    claim = world.collect(job_id)
    assert world.store.cancel(job_id, CancelReason.DEADLINE)[0] == "over"
    running = Decision(claim.record.with_(state=State.RUNNING), Step.POLL, 5.0, "state")
    assert world.store.settle(claim, running).counted == (True,)
    assert world.store.load(job_id)[0].cancel is CancelReason.DEADLINE
    assert ("cancel", job_id, "") in world.sweep().messages


def test_a_stop_asked_while_collecting_leaves_a_result_alone(world: World) -> None:
    job_id = world.at(State.COLLECTING)
    claim = world.collect(job_id)
    world.store.cancel(job_id)
    done = claim.record.with_(state=State.COMPLETED, ending={"result": {"job_id": job_id}})
    world.store.settle(claim, Decision(done, Step.DELIVER, event="state"))
    record, _now = world.store.load(job_id)
    assert record.state is State.COMPLETED
    assert record.ending == {"result": {"job_id": job_id}}


def test_a_stop_asked_while_the_answer_to_the_submit_is_awaited_ends_the_job_when_there_is_none(world: World) -> None:
    """As one that is asked for a moment later does. The policy would have it wait for as long as its ttl."""
    job_id = world.job()
    claim = world.claim(job_id)
    assert world.store.cancel(job_id, CancelReason.DEADLINE)[0] == "asked"
    unknown = Decision(claim.record.with_(state=State.UNKNOWN), Step.SUBMIT, 86_400.0, "state")
    assert world.store.settle(claim, unknown).counted == (True,)
    record, _now = world.store.load(job_id)
    assert record.state is State.TIMED_OUT
    assert record.ending is not None
    world.past("outbox", f"deliver|{job_id}")
    assert ("deliver", job_id, f"envelope of {job_id}") in world.sweep().messages
