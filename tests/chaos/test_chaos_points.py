"""A worker killed, or frozen past its leases, at every named crash point: no job is lost, none is paid for twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest
from celery import Celery

import ryla_tasks
from ryla_tasks.crashpoints import POINTS, VARIABLE
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer, LoseAnswer, Operation
from ryla_tasks.tasks.messages import send_adoption
from tests.support.chaos.mix import Mix
from tests.support.chaos.report import SEED, WHOLE, note
from tests.support.chaos.victims import quick_worker, victim, wait_struck
from tests.support.fleet import Fleet, eventually

#: The point in the process that enqueues.
AT_ENQUEUE = "after_create_before_send"

#: In the short part: where a GPU is paid for and nobody has written it down, and where a result could be told twice.
SHORT = ("after_submit_before_record", "after_deliver_settle_before_return")

SEEDS = (0, 1) if WHOLE else (0,)
pytestmark = pytest.mark.timeout(240)

#: Points that only sheets come by: they are struck in test_chaos_sheets.py.
OF_SHEETS = frozenset({"after_spread_claim", "after_cell_before_next", "after_cells_before_spread_settle"})

STRUCK = [point for point in POINTS if point != AT_ENQUEUE and point not in OF_SHEETS]


def cases(mode: str) -> list[object]:
    short = SHORT if mode == "kill" else ()
    return [
        pytest.param(point, mode, seed, marks=() if point in short and not seed else pytest.mark.chaos)
        for seed in (SEEDS if mode == "kill" else SEEDS[:1])
        for point in STRUCK
    ]


@pytest.mark.parametrize(("point", "mode", "seed"), [*cases("kill"), *cases("freeze")])
def test_a_worker_struck_at_a_point(chaos: Fleet, point: str, mode: str, seed: int) -> None:
    chance = random.Random(f"{SEED}:{point}:{mode}:{seed}")
    nth = 1 + chance.randrange(3) * (point not in _RARE)
    print(f"seed {SEED}: {mode} at pass {nth} of {point}")
    mix = Mix(chaos)
    lead_to(chaos, mix, point)
    worker = victim(chaos, point, nth, mode)
    if point == "after_adoption_ask_before_record":
        adopt_unanswered(chaos, mix)
    wait_struck(worker, mode)
    quick_worker(chaos).wait_ready()
    if point == "after_adoption_ask_before_record":
        adopt_unanswered(chaos, mix)
    # A message from an app without the package is the broker's alone until its record is written.
    took = mix.wait(140 if point == "before_adoption_recorded" else 60)
    if mode == "freeze":
        before = mix.remote_jobs()
        ends = {job_id: record.ending for job_id, record in mix.records().items()}
        worker.signal(signal.SIGCONT)
        woken(mix, point)
        assert {job_id: record.ending for job_id, record in mix.records().items()} == ends
        # A process frozen between its last look and its POST submits when it wakes: once, and it is cancelled.
        assert (mix.remote_jobs() - before).total() == (1 if point == "before_submit" else 0)
    note(f"{mode} {point} ({nth})", len(mix), mix.ended(), mix.check(), f"{took:.0f} s, {mix.unanswered()} unanswered")


#: Points that a fleet comes by less often than three times here.
_RARE = frozenset(
    {
        "before_adoption_recorded", "after_adoption_before_submit", "after_refusal_before_settle",
        "after_submit_settle_before_message", "before_remote_cancel", "after_remote_cancel",
        "after_sweep_before_send", "after_adoption_ask_before_record", "after_return_before_delivered",
    }
)  # fmt: skip


def lead_to(fleet: Fleet, mix: Mix, point: str) -> None:
    """Enqueue jobs whose way leads past a point."""
    echo = fleet.endpoint("echo")
    if point == "after_adoption_ask_before_record":
        echo.add_fault(LoseAnswer(op=Operation.RUN, times=1))
        mix.add(State.COMPLETED, simulate={"seconds": 2}, on_unknown="wait")
        return
    mix.plain(6, user_id="ann")
    mix.add(State.COMPLETED, simulate={"seconds": 1, "output_bytes": 100_000, "crash": 1})
    mix.add(State.FAILED, simulate={"fail": "no"}, max_retries=0)
    mix.inputs = {job_id: {} if "output_bytes" in str(wish) else wish for job_id, wish in mix.inputs.items()}
    if point.startswith(("after_refusal", "after_submit_settle")):
        echo.add_fault(Answer(op=Operation.RUN, status=429, times=3, retry_after=0.2))
    if "cancel" in point:
        # Deadlines end in the same cancel as a user's wish, and need nobody who waits for the right moment.
        for _ in range(2):
            mix.add(State.TIMED_OUT, simulate={"never_end": True}, deadline_s=6)
    if "adoption" in point and point != "after_adoption_ask_before_record":
        by_name(fleet, mix)
    if point == "after_sweep_before_send":
        fleet.client.delete(*fleet.client.scan_iter("ryla.jobs*"))


def by_name(fleet: Fleet, mix: Mix) -> None:
    """A job from an app without the package."""
    app = Celery("bare", broker=fleet.redis.url, backend=fleet.redis.url, set_as_current=False)
    wish = {"by": "name"}
    kwargs = {"endpoint": "echo", "input": wish, "on_unknown": "fail"}
    mix.expect(app.send_task("ryla.run_endpoint", queue="ryla.jobs", kwargs=kwargs).id, State.COMPLETED, wish=wish)
    app.close()


def adopt_unanswered(fleet: Fleet, mix: Mix) -> None:
    """What a webhook call for each submit without an answer would do."""

    def unanswered() -> list[str]:
        return [found.decode() for found in fleet.client.zrange("ryla:idx:state:unknown", 0, -1)]

    for job_id in eventually(unanswered, timeout=30, what="a submit without an answer"):
        record = mix.records()[job_id]
        remote = next(job for job in fleet.endpoint("echo").jobs() if job.correlation_id == record.correlation_id)
        send_adoption(ryla_tasks.app, job_id, record.attempt, remote.id)


#: What shows that a worker which slept too long was turned away: a counter, by the point where it slept.
_TURNED_AWAY = {
    "after_submit_claim": "fences_lost",
    "before_submit": "orphans",
    "after_submit_before_record": "orphans",
    "after_refusal_before_settle": "fences_lost",
    "after_poll_claim": "fences_lost",
    "after_ask_before_settle": "fences_lost",
    "after_fetch_before_artifacts": "fences_lost",
    "after_artifacts_before_settle": "fences_lost",
}


def woken(mix: Mix, point: str) -> None:
    """A worker that was frozen has done what it had in its hands."""
    counter = _TURNED_AWAY.get(point)
    if counter is not None:
        eventually(lambda: mix.counter(counter), what=f"{point}: {counter}")
    mix.check_idle()


@pytest.mark.parametrize("seed", range(3 if WHOLE else 1))
def test_the_caller_dies_between_the_record_and_the_message(chaos: Fleet, seed: int) -> None:
    """The job was accepted: the sweeper sends the message that its web process did not."""
    mix = Mix(chaos)
    env = {**os.environ, VARIABLE: AT_ENQUEUE}
    task_id = f"orphaned-{SEED}-{seed}"
    process = subprocess.run([sys.executable, "-m", "tests.support.enqueue_one", task_id], env=env, timeout=30)
    assert process.returncode == -signal.SIGKILL
    mix.expect(task_id, State.COMPLETED, wish={"n": 1})
    quick_worker(chaos)
    took = mix.wait(30)
    note(f"kill {AT_ENQUEUE}", 1, mix.ended(), mix.check(), f"{took:.0f} s")
