"""When to look at a remote job again. Pure: the same record gives the same delay.

A poll costs a call, and calls are limited per endpoint for the whole fleet; a late poll costs the user time. So the
gap grows with the age of what is waited for (a tenth of it), shrinks near the expected end, and stretches when the
target has more jobs in flight than its limit can serve. Where a webhook will say when to look, and nobody watches the
progress, polls thin out to a safety net. No gap exceeds `LONGEST_GAP_S`: results live only 30 minutes
at RunPod, and a countdown that is lost with a worker must not delay a job for long.
"""

from __future__ import annotations

from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State

__all__ = ["LONGEST_GAP_S", "first_gap", "next_gap"]

LONGEST_GAP_S = 30.0

#: Share of the age of a phase that a poll may come late by.
_PATIENCE = 0.1

#: Share of a target's status limit that planned polls may use; the rest is for nudges and deliveries.
_SHARE = 0.8


def first_gap(record: JobRecord) -> float:
    """Seconds from a submit to the first poll."""
    return _bounded(record, record.spec.poll_min_s)


def next_gap(record: JobRecord, now: float, *, in_flight: int = 1, calls_per_s: float = 200.0) -> float:
    """Seconds until the next poll of a job that is still on its way.

    `in_flight` is the number of jobs at the same target, `calls_per_s` the target's limit of status calls.
    """
    observed = record.observed
    if observed.troubles:
        gap = record.spec.poll_min_s * 2.0 ** min(observed.troubles, 5)
    elif record.state is State.RUNNING and observed.running_since:
        gap = _running_gap(record, now)
    else:
        gap = (now - record.submitted) * _PATIENCE
    if record.spec.webhook and record.watched < now:
        gap = LONGEST_GAP_S  # the webhook says when to look; this is the safety net under it
    return _bounded(record, max(gap, in_flight / (calls_per_s * _SHARE)))


def _running_gap(record: JobRecord, now: float) -> float:
    """Half of what is left, where that can be told; else a share of the running time."""
    run = max(0.0, now - record.observed.running_since)
    percent = record.observed.percent
    if percent >= 1.0:
        left = run * (100.0 - percent) / percent
        return left / 2
    return run * _PATIENCE


def _bounded(record: JobRecord, gap: float) -> float:
    longest = LONGEST_GAP_S if record.spec.webhook else min(record.spec.poll_max_s, LONGEST_GAP_S)
    return min(max(gap, record.spec.poll_min_s), longest)
