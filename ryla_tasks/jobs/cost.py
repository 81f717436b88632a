"""What a job costs. RunPod bills per endpoint and hour, never per job, so all of this is an estimate. Pure.

The cost of a job is what its earlier attempts have cost, and, at the price of the target that the latest one went to,
the execution time of all its runs (RunPod may run an attempt again), with the start of a worker if that counts for it.
Of the jobs that waited for the same start it counts for one alone, which is for the store to say. What is not in it:
idle workers, disks, and what RunPod rounds otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ryla_tasks.jobs.money import Money, dollars, micro, seconds_cost
from ryla_tasks.jobs.observation import Collected, NotAccepted, Observation, OutcomeUnknown, Seen, StillUnknown
from ryla_tasks.jobs.record import JobRecord, Observed
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.runs import known, spent_ms
from ryla_tasks.jobs.states import POLLED, State
from ryla_tasks.jobs.stats import SHORTEST_COLD_S

__all__ = ["ColdStart", "Reckoning", "estimate", "expecting", "is_unaffordable", "ran_ms", "reckoned", "so_far"]

#: States of a job at the cloud that no worker has taken yet.
_AT_REST = frozenset({State.WAITING, State.STARTING})
_TAKEN = frozenset({RemoteStatus.IN_PROGRESS, RemoteStatus.COMPLETED, RemoteStatus.FAILED})


@dataclass(frozen=True, slots=True)
class ColdStart:
    """A worker's start that a job has waited for: when the job was sent, when a worker took it, and what the time
    between them costs. Times are seconds by the clock of Redis, `cost` micro-dollars."""

    sent: float
    began: float
    ms: int
    cost: int


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What an observation makes of a job's money. `start` is one that may count for it; `over`: it costs more than it
    may, and has to be stopped; `assumed`: nobody knows what the attempt that is over has cost."""

    money: Money
    start: ColdStart | None = None
    over: bool = False
    assumed: bool = False


def estimate(record: JobRecord, execution_ms: int | None, delay_ms: int | None = None) -> dict[str, Any]:
    """The estimated cost in US dollars of a job whose last run took so long, as its result tells it.

    `usd` is all of it, None where the price or the time is not known; `earlier_usd` is what earlier attempts have cost,
    `billed_s` and `execution_usd` are the seconds of this attempt's runs and their cost, `cold_s` and `cold_usd` those
    of a worker's start. `delay_ms` is how long the job waited for its worker, where the cloud has said so.
    """
    money = record.money
    price = money.price_per_s or record.spec.price_per_s
    cold_ms = money.cold_ms
    if delay_ms is not None and not record.observed.dispatches:
        cold_ms = min(cold_ms, delay_ms)
    cold = seconds_cost(cold_ms, money.start_per_s)
    run = execution = None
    if execution_ms is not None:
        run = execution_ms + record.observed.banked_ms
        execution = seconds_cost(run, price) if price else None
    return {
        "usd": dollars(money.paid + execution + cold) if execution is not None else None,
        "billed_s": None if run is None else math.ceil(run / 1000),
        "cold_s": cold_ms / 1000,
        "execution_usd": None if execution is None else dollars(execution),
        "cold_usd": dollars(cold),
        "earlier_usd": dollars(money.paid),
        "price_per_s": price or None,
    }


def so_far(record: JobRecord, now: float) -> float | None:
    """What a job has cost by now, in dollars; None where its price is not known."""
    money = record.money
    if not money.price_per_s:
        cost: dict[str, Any] = ((record.ending or {}).get("result") or {}).get("cost") or {}
        usd: float | None = cost.get("usd")
        return usd
    if record.state in POLLED:
        return dollars(money.paid + _running(record, now))
    if record.state is State.COLLECTING:
        execution_ms = record.observed.execution_ms
        known_cost = None if execution_ms is None else _attempt(record, execution_ms)
        return dollars(money.paid + (money.reserved if known_cost is None else known_cost))
    return dollars(money.paid)


def expecting(record: JobRecord, price_per_s: float) -> Money:
    """The account of a job whose next attempt is about to begin at this price, with what it is expected to cost. Where
    there is a store it does this itself; starts of workers, which it knows of, are left out here."""
    expected = micro(record.spec.expected_run_s * price_per_s)
    return replace(record.money, price_per_s=price_per_s, start_per_s=0.0, reserved=expected, cold_ms=0)


def is_unaffordable(record: JobRecord) -> bool:
    """Whether a job with its expected cost would be over its own ceiling."""
    most = record.spec.max_cost_usd
    return most is not None and record.money.paid + record.money.reserved > micro(most)


def reckoned(before: JobRecord, observation: Observation, after: JobRecord, now: float) -> Reckoning:
    """What an observation that changed a job so makes of its money."""
    money = before.money
    if not money.is_kept:
        return Reckoning(after.money)
    start = _start(before, observation, now)
    if after.state.ended or after.state is State.QUEUED:
        spent = _spent(before, observation, now)
        closed = money.closed(spent)
        closed = replace(closed, cold_ms=0) if after.state is State.QUEUED else closed
        return Reckoning(closed, start, assumed=spent is None)
    if after.state not in POLLED:
        return Reckoning(money, start)
    cost = _running(after, now)
    if cost > money.reserved:
        # A tenth more, so that not every poll has to write.
        money = replace(money, reserved=cost + math.ceil(cost / 10))
    most = after.spec.max_cost_usd
    over = most is not None and not after.cancel and money.paid + cost > micro(most)
    return Reckoning(money, start, over)


def _attempt(record: JobRecord, run_ms: int) -> int:
    """The cost of an attempt, with its latest run so long."""
    money = record.money
    return seconds_cost(record.observed.banked_ms + run_ms, money.price_per_s) + money.cold_cost


def _running(record: JobRecord, now: float) -> int:
    """The cost of an attempt at the cloud by now. Of a run under way RunPod mostly does not say for how long it has
    been: then that is since it was first seen to run."""
    observed = record.observed
    watched = round(max(0.0, now - observed.running_since) * 1000) if observed.running_since else 0
    return _attempt(record, max(observed.execution_ms or 0, watched))


def _spent(before: JobRecord, observation: Observation, now: float) -> int | None:
    """The cost of the attempt that this observation ends; None where it is not known."""
    match observation:
        case NotAccepted():
            return 0
        case Collected(result):
            usd = (result.get("cost") or {}).get("usd")
            return None if usd is None else max(0, micro(usd) - before.money.paid)
    run_ms = ran_ms(before, observation, now)
    return None if run_ms is None else seconds_cost(run_ms, before.money.price_per_s) + before.money.cold_cost


def ran_ms(before: JobRecord, observation: Observation, now: float) -> int | None:
    """The execution time of all runs of the attempt that this observation ends; None where it is not known."""
    match observation:
        case NotAccepted():
            return 0
        case OutcomeUnknown() | StillUnknown():
            return None
        case Collected(result):
            executed_s = (result.get("timings") or {}).get("executed_s")
            return None if executed_s is None else before.observed.banked_ms + round(executed_s * 1000)
        case Seen(job):
            observed = known(before.observed, job, now)
            if job.status is not RemoteStatus.CANCELLED and not _has_run(observed):
                return None
            return observed.banked_ms + spent_ms(observed, now)
    observed = before.observed
    if not _has_run(observed) or (before.state is State.COLLECTING and observed.execution_ms is None):
        # It may have run in the meantime; when it was over, nobody has seen.
        return None
    return observed.banked_ms + spent_ms(observed, observed.missing_since or now)


def _has_run(observed: Observed) -> bool:
    return observed.execution_ms is not None or observed.running_since > 0


def _start(before: JobRecord, observation: Observation, now: float) -> ColdStart | None:
    """The worker's start that is over with this observation, if the job has waited for one, and it is billed.

    Where the cloud does not say for how long, it was until now.
    """
    if not before.money.start_per_s or not before.observed.cold or before.state not in _AT_REST:
        return None
    if not isinstance(observation, Seen) or not _is_taken(observation.job):
        return None
    observed = known(before.observed, observation.job, now)
    waited_s = now - before.submitted if observed.delay_ms is None else observed.delay_ms / 1000
    if waited_s < SHORTEST_COLD_S:
        return None
    # Of a job that was dispatched again, the wait is that of the last time.
    began = now if observed.delay_ms is None or observed.dispatches else before.submitted + waited_s
    ms = round(waited_s * 1000)
    return ColdStart(began - waited_s, began, ms, seconds_cost(ms, before.money.start_per_s))


def _is_taken(job: RemoteJob) -> bool:
    """Whether a worker has taken a remote job by now."""
    return job.truncated or job.execution_ms is not None or job.status in _TAKEN
