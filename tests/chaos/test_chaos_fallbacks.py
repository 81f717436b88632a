"""A worker killed, or frozen, while jobs take their fallbacks: no attempt goes out with the input of another."""

from __future__ import annotations

import itertools
import random
import signal

import pytest
from kombu.utils.uuid import uuid

import ryla_tasks
from ryla_tasks import FallbackPlan, JobPlan
from ryla_tasks.jobs.states import State
from ryla_tasks.tasks import enqueue
from ryla_tasks.tasks.plan import JobOptions
from tests.support.chaos.mix import Mix, is_unanswered
from tests.support.chaos.report import SEED, WHOLE, note
from tests.support.chaos.victims import quick_worker, victim, wait_struck
from tests.support.fleet import Fleet

#: Where the swap of the input may be torn from what is around it, and where the attempt after it is on its way.
POINTS = (
    "after_ask_before_settle",
    "after_poll_settle_before_message",
    "after_submit_claim",
    "after_submit_before_record",
)
JOBS = 6

pytestmark = pytest.mark.timeout(240)

#: The part that always runs: the input is exchanged, and nobody has been told.
SHORT = ("after_poll_settle_before_message", "kill", 0)

CASES = [
    pytest.param(*case, marks=() if case == SHORT else pytest.mark.chaos)
    for case in itertools.product(POINTS, ("kill", "freeze"), (0, 1) if WHOLE else (0,))
]


def add(mix: Mix, number: int) -> None:
    """A job whose own input lacks a node, and whose fallback works."""
    wishes = [{"n": number, "which": which} for which in ("own", "fallback")]
    failing = {**wishes[0], "simulate": {"seconds": 0.5, "fail": "Cannot execute because node X does not exist."}}
    working = {**wishes[1], "simulate": {"seconds": 0.5}}
    plan = JobPlan(failing, endpoint="echo", label="own", fallbacks=(FallbackPlan(JobPlan(working, label="fallback")),))
    options, job_id = JobOptions.model_validate({"on_unknown": "fail"}), uuid()
    enqueue.accept(ryla_tasks.run_endpoint, plan, options, job_id, {}, ((), {}))
    mix.expect(job_id, State.COMPLETED, wish=wishes[1])


@pytest.mark.parametrize(("point", "mode", "seed"), CASES)
def test_a_worker_struck_while_jobs_fall_back(chaos: Fleet, point: str, mode: str, seed: int) -> None:
    nth = 1 + random.Random(f"{SEED}:fallback:{point}:{mode}:{seed}").randrange(4)
    print(f"seed {SEED}: {mode} at pass {nth} of {point}")
    mix = Mix(chaos)
    for number in range(JOBS):
        add(mix, number)
    worker = victim(chaos, point, nth, mode)
    wait_struck(worker, mode)
    quick_worker(chaos).wait_ready()
    took = mix.wait(60)
    if mode == "freeze":
        worker.signal(signal.SIGCONT)
        mix.check_idle()
    check_inputs(mix)
    note(f"{mode} {point} ({nth}), fallbacks", JOBS, mix.ended(), mix.check(), f"{took:.0f} s, {mix.unanswered()} lost")


def check_inputs(mix: Mix) -> None:
    """Attempts before the fallback had the job's own input, those after it the fallback's, and each was sent once."""
    hosted = mix.fleet.simulator._simulator.endpoints["echo"]
    inputs = [job.input for job in list(hosted.core.jobs.values())]
    for job_id, record in mix.records().items():
        sent = {one["ryla"]["attempt"]: one["which"] for one in inputs if one["ryla"]["job_id"] == job_id}
        assert len(sent) == sum(one["ryla"]["job_id"] == job_id for one in inputs), "an attempt was sent twice"
        (failed,) = [line.attempt for line in record.fallbacks] or [record.attempt]
        assert all((which == "own") == (attempt <= failed) for attempt, which in sent.items()), (sent, record)
        assert record.spec.label == ("fallback" if record.fallbacks else "own")
        assert bool(record.fallbacks) or is_unanswered(record)
    taken = sum(len(record.fallbacks) for record in mix.records().values())
    assert mix.counter("fallbacks") == taken
