"""A worker that is stopped, frozen or killed in mid-run: nothing is lost, and nothing is submitted twice."""

from __future__ import annotations

import signal

import pytest

import ryla_tasks
from ryla_tasks.errors import SubmitOutcomeUnknown
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Delay
from ryla_tasks.tasks.crew import MOST
from tests.support.chaos.victims import QUICK_APP
from tests.support.crowd import Crowd, polls
from tests.support.fleet import Fleet, eventually

SLOTS = 4

#: A submit is given up soon after its worker has died.
IMPATIENT = {"RYLA_HTTP_TOTAL_S": "2", "RYLA_HTTP_READ_S": "2", "RYLA_HTTP_CONNECT_S": "2"}


def test_workers_are_stopped_in_mid_run_gently_and_hastily(fleet: Fleet) -> None:
    """SIGTERM lets steps under way end, SIGQUIT gives held messages back; the third worker does the rest."""
    gently, hastily, _other = fleet.workers(3, "--concurrency", str(SLOTS))
    crowd = Crowd(fleet, 60, 4.0)
    crowd.wait_submitted()
    gently.signal(signal.SIGTERM)
    hastily.signal(signal.SIGQUIT)
    crowd.wait_ended()
    crowd.check_told()
    crowd.check_submitted_once()
    assert crowd.states() == {State.COMPLETED: 60}
    eventually(lambda: not gently.alive() and not hastily.alive(), timeout=40, what="both have ended")


def test_a_worker_is_frozen_past_its_leases_and_thaws(fleet: Fleet) -> None:
    """Its claims are taken over; what it says after its thaw comes too late, and changes nothing."""
    frozen = fleet.worker("--concurrency", str(SLOTS), "-l", "DEBUG").wait_ready()
    crowd = Crowd(fleet, 40, 4.0)
    crowd.wait_submitted()
    with fleet.endpoint("echo").fault(Delay(op="status", seconds=0.5, times=None)):
        eventually(lambda: fleet.client.zcard("ryla:rides:runpod:echo"), every=0.005, what="ride under way")
        frozen.signal(signal.SIGSTOP)
    claimed = polls(frozen)[0]
    fleet.worker("--concurrency", str(SLOTS)).wait_ready()
    crowd.wait_ended()
    crowd.check_told()
    before = [ryla_tasks.Job.get(result.id).record.ending for result in crowd.results]
    frozen.signal(signal.SIGCONT)
    eventually(lambda: polls(frozen)[0] > claimed, what="thawed ride over")
    assert frozen.stop() == 0
    assert [ryla_tasks.Job.get(result.id).record.ending for result in crowd.results] == before
    assert crowd.states() == {State.COMPLETED: 40}
    assert crowd.counter("fences_lost") > 0
    crowd.check_told()
    crowd.check_submitted_once()


@pytest.mark.parametrize(
    ("jobs", "at", "delay_s"),
    [
        pytest.param(40, 6, 0.8, id="40"),
        pytest.param(500, 150, 0.3, id="500", marks=[pytest.mark.load, pytest.mark.timeout(400)]),
    ],
)
def test_all_workers_are_killed_in_the_middle_of_submits(fleet: Fleet, jobs: int, at: int, delay_s: float) -> None:
    """All jobs end. Whose POST was in flight may be running and paid for: it ends as unknown, and is not sent again."""
    fleet.reset(workers_min=jobs, workers_max=2 * jobs)
    fleet.endpoint("echo").add_fault(Delay(op="run", seconds=delay_s, times=None))
    crowd = Crowd(fleet, jobs, 1.0)
    workers = fleet.workers(2, "--concurrency", str(SLOTS), app=QUICK_APP, **IMPATIENT)
    crowd.wait_submitted(at)
    eventually(lambda: crowd.count(State.SUBMITTING), every=0.005, what="POSTs in flight")
    for worker in workers:
        worker.kill()
    fleet.endpoint("echo").clear_faults()
    in_flight = crowd.count(State.SUBMITTING)
    assert 1 <= in_flight <= 2 * (SLOTS - 1 + MOST), "each process keeps a slot for polls"
    fleet.worker("--concurrency", str(SLOTS), app=QUICK_APP, **IMPATIENT).wait_ready()
    crowd.wait_ended(timeout=90)
    crowd.check_told()
    crowd.check_submitted_once()
    assert crowd.states() == {State.COMPLETED: jobs - in_flight, State.FAILED: in_flight}
    errors = [ryla_tasks.Job.get(result.id).error for result in crowd.results if result.state == "FAILURE"]
    assert all(isinstance(error, SubmitOutcomeUnknown) for error in errors)
