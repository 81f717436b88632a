"""What a job waits for at the cloud, in words and in seconds. Pure.

/status says IN_QUEUE to all that wait; whether a worker is up, starting, or cannot come, only /health tells, and how
long that takes here, only the target's own history.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.record import JobRecord, Observed
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import POLLED, State
from ryla_tasks.jobs.stats import NO_STATS, EndpointStats, Spread
from ryla_tasks.jobs.stuck import Watch

__all__ = ["NOTHING_KNOWN", "Outlook", "phase_of", "waits"]

#: An older watch says nothing of now: nobody has waited since.
_FRESH_S = 90.0

#: A job so far back in line is told no number: it would change at every look.
_LONGEST_LINE = 20


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a target: its watch, from while somebody waits there, and its history."""

    watch: Watch | None = None
    stats: EndpointStats = NO_STATS

    def now(self, now: float) -> Watch | None:
        """The watch, unless it is of another time."""
        return self.watch if self.watch and now - self.watch.at <= _FRESH_S else None

    def health(self, now: float) -> Health | None:
        """The last answer of /health, unless it is of another time."""
        watch = self.now(now)
        return watch.health if watch and watch.health and now - watch.health.at <= _FRESH_S else None


NOTHING_KNOWN = Outlook()

_BEFORE_RUNNING = frozenset({State.WAITING, State.STARTING})


def phase_of(record: JobRecord, job: RemoteJob, outlook: Outlook, now: float) -> State:
    """The state that a status which is no end stands for; a word not known here tells nothing new.

    Processes look at different moments: one that knows nothing newer than what the record came from changes nothing.
    """
    if job.status is RemoteStatus.IN_PROGRESS:
        return State.RUNNING
    if job.status is not RemoteStatus.IN_QUEUE and record.state in POLLED:
        return record.state
    health = outlook.health(now)
    if health is None or not _is_news(outlook, record.observed, now):
        return record.state if record.state in _BEFORE_RUNNING else State.WAITING
    return State.STARTING if health.starting else State.WAITING


def waits(observed: Observed, record: JobRecord, state: State, outlook: Outlook, now: float) -> Observed:
    """What was observed, with what the outlook adds: what a waiting job is told, when it is likely to run, and for
    how long; and whether it has met a cold start, which it has if /health, asked since its submit, shows no worker."""
    observed = replace(observed, run_s=observed.run_s or _whole(outlook.stats.run))
    if state is State.RUNNING:
        return replace(observed, waiting="", stuck="", starts_at=0.0)
    watch = outlook.now(now)
    if not _is_news(outlook, observed, now) and (observed.waiting or observed.asked):
        return observed
    health = outlook.health(now)
    asked_since = health is not None and health.at >= record.submitted
    absent = health is not None and not health.up
    stuck = watch.cause if watch and watch.stuck else None
    usual = outlook.stats.cold if absent else outlook.stats.queue
    return replace(
        observed,
        asked=watch.at if watch else 0.0,
        waiting=stuck.sentence if stuck else _words(state, usual, health if asked_since else None),
        stuck=str(stuck or ""),
        cold=observed.cold or (asked_since and absent),
        starts_at=0.0 if stuck or not usual.enough else round(record.submitted + usual.p50, 1),
    )


def _is_news(outlook: Outlook, observed: Observed, now: float) -> bool:
    """Whether the watch is newer than the one that the record was written by."""
    watch = outlook.now(now)
    return watch is not None and watch.at > observed.asked


def _words(state: State, usual: Spread, health: Health | None) -> str:
    """What is known beyond the state's own sentence, or nothing: "Starting a GPU, usually 45-90 s".

    A place in line is told where it is known. Nobody overtakes in RunPod's queue, so whoever was counted by a later
    look has at most all the others before him.
    """
    if state is State.WAITING and health is not None and health.up and 1 < health.queued <= _LONGEST_LINE:
        before = health.queued - 1
        return f"{state.sentence}: at most {before} {'job' if before == 1 else 'jobs'} before yours"
    low, high = _fives(usual.low), _fives(usual.high)
    if not usual.enough or high < 5:
        return ""
    span = f"about {high} s" if low == high else f"{low}-{high} s" if low else f"up to {high} s"
    return f"{state.sentence}, usually {span}"


def _fives(seconds: float) -> int:
    return round(seconds / 5) * 5


def _whole(usual: Spread) -> float:
    return float(round(usual.p50)) if usual.enough else 0.0
