"""The sweeper: in every worker process, every few seconds, one look at everything that is overdue.

Messages are hints and may be lost with a worker; the store is the truth. The sweeper sends again what should have
come, has deadlines carried out, turns Celery's revokes into cancels, and drops records past their retention. It
needs no lock: its one script moves on whatever it hands out, so that two sweepers never hand out the same.
"""

from __future__ import annotations

import random
import threading
from itertools import chain, repeat
from typing import Any
from uuid import uuid4

import click
from celery import Celery, bootsteps

from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import RylaError
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.logs import Log
from ryla_tasks.store.answers import Delivery
from ryla_tasks.tasks.messages import send_cancel, send_line, send_poll, send_step
from ryla_tasks.tasks.quiet import hush
from ryla_tasks.tasks.revokes import RevokeWatch
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["WITHOUT_SWEEPER", "Sweeper", "SweeperStep", "sweep_once"]

log = Log(__name__)

#: An option of `celery worker`, beside Celery's own `--without-gossip` and its like. Among very many workers some are
#: enough to sweep, but one must: without any, what is lost stays lost.
WITHOUT_SWEEPER = click.Option(
    ["--without-sweeper"],
    is_flag=True,
    help="Do not look for jobs whose messages are late or lost; another worker of the fleet has to.",
)

#: By when a new process looks for the first time.
FIRST_LOOK_S = 0.5

#: How late a poll may be before its target gets another message.
GRACE_S = 1.0

#: The most of one sort that a sweep hands out: a bounded bite, the rest comes with the next.
MOST = 200

#: When no message had to be sent again for this long, a burst of recovery is over.
CALM_S = 10.0

#: After this many deliver messages without an end in Celery (five hours) the job is given up as undelivered.
MOST_RESENDS = 64


def sweep_once(app: Celery, worker: str = "") -> int:
    """Do one sweep and send what it found; returns how many messages that were. `worker` stands for a process that is
    counted as one of the fleet."""
    store = runtime_of(app).store
    swept = store.sweep(grace_s=GRACE_S, most=MOST, most_resends=MOST_RESENDS, worker=worker)
    if swept.wakes or swept.lines or swept.messages:
        crashpoint("after_sweep_before_send")
    for target in swept.wakes:
        send_poll(app, target, 0.0)
    for endpoint in swept.lines:
        send_line(app, endpoint, 0.0)
    for kind, job_id, envelope in swept.messages:
        if kind == "cancel":
            send_cancel(app, job_id=job_id)
        elif kind == "orphan":
            send_cancel(app, orphan=job_id)
        else:
            send_step(app, Delivery(job_id, envelope), Step(kind))
    sent = len(swept.wakes) + len(swept.lines) + len(swept.messages)
    if sent:
        log.info("sweep.sent", messages=len(swept.messages), polls=len(swept.wakes), lines=len(swept.lines))
    recovered = store.note_recovery(sent, calm_s=CALM_S)
    if recovered is not None:
        log.info(
            "recovery.done", tried=recovered.tried, recovered=recovered.recovered, late=recovered.late,
            seconds=recovered.seconds,
        )  # fmt: skip
    return sent


class Sweeper(threading.Thread):
    """Sweeps until stopped. Redis being away is no reason to end."""

    def __init__(self, app: Celery, interval_s: float) -> None:
        super().__init__(name="ryla-sweeper", daemon=True)
        self._app = app
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._revokes = RevokeWatch(app)
        self._name = uuid4().hex

    def run(self) -> None:
        # After a restart of all workers everything is overdue, so the first look comes soon; the others are spread.
        pauses = chain((random.uniform(0, FIRST_LOOK_S), random.uniform(0, self._interval_s)), repeat(self._interval_s))
        while not self._stopping.wait(min(next(pauses), self._interval_s)):
            try:
                self._revokes.look()
                sweep_once(self._app, self._name)
                runtime_of(self._app).hand_on_tallies()
            except RylaError as error:
                log.warning("sweep.failed", error=error)
            except Exception:
                log.exception("sweep.broken")

    def stop(self) -> None:
        """End after the sweep under way."""
        self._stopping.set()


class SweeperStep(bootsteps.StartStopStep):
    """Runs a sweeper beside a Celery worker, and tells the slow lane how many slots there are."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, without_sweeper: bool = False, **kwargs: Any) -> None:
        self._wanted = not without_sweeper
        self._sweeper: Sweeper | None = None
        super().__init__(parent, **kwargs)

    def start(self, parent: Any) -> None:
        hush()
        runtime = runtime_of(parent.app)
        runtime.lane.resize(int(parent.concurrency or 1))
        if self._wanted:
            self._sweeper = Sweeper(parent.app, runtime.settings.sweep_interval_s)
            self._sweeper.start()

    def stop(self, _parent: Any) -> None:
        if self._sweeper is not None:
            self._sweeper.stop()
