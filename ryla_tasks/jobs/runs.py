"""The runs of one attempt at the cloud: RunPod may break one off and dispatch the same job again. Pure."""

from __future__ import annotations

from dataclasses import replace

from ryla_tasks.jobs.record import Observed
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus

__all__ = ["known", "restarted", "spent_ms"]

#: A poll that tells nothing new must not cost a write: the time of the last sight is kept in steps.
_SEEN_STEP_S = 300.0


def known(before: Observed, job: RemoteJob, now: float) -> Observed:
    """What every answer that knows the job tells: its status, its times, its GPU worker, and whether it was dispatched
    again since the last one."""
    observed = _dispatched_again(before, job, now) if restarted(before, job) else before
    waits = job.status is RemoteStatus.IN_QUEUE
    return replace(
        observed,
        status=job.raw_status or str(job.status),
        delay_ms=job.delay_ms if job.delay_ms is not None else observed.delay_ms,
        execution_ms=job.execution_ms if job.execution_ms is not None else observed.execution_ms,
        worker_id=observed.worker_id if waits else job.worker_id or observed.worker_id,
        missing_since=0.0,
        seen_at=now if now - observed.seen_at > _SEEN_STEP_S else observed.seen_at,
        troubles=0,
        trouble="",
    )


def restarted(before: Observed, job: RemoteJob) -> bool:
    """RunPod has dispatched the same job again: other worker, back in the queue, or more `retries`."""
    if job.retries > before.dispatches:
        return True
    if before.running_since and job.status is RemoteStatus.IN_QUEUE:
        return True
    return bool(before.worker_id and job.worker_id and job.worker_id != before.worker_id)


def spent_ms(observed: Observed, until: float) -> int:
    """The execution time of a run that broke before `until`: what the cloud said, or else what was watched.

    RunPod gives `executionTime` with an end only, so that of a broken run is mostly not known.
    """
    if observed.execution_ms is not None:
        return observed.execution_ms
    return round(max(0.0, until - observed.running_since) * 1000) if observed.running_since else 0


def _dispatched_again(observed: Observed, job: RemoteJob, now: float) -> Observed:
    """The broken run is paid for too; the percentage is held, and the new run's time starts anew."""
    return replace(
        observed,
        dispatches=max(job.retries, observed.dispatches + 1),
        banked_ms=observed.banked_ms + spent_ms(observed, now - (job.execution_ms or 0) / 1000),
        execution_ms=None,
        worker_id="",
        running_since=0.0,
    )
