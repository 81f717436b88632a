"""Cancelling remote jobs: those of jobs that are to stop, and orphans that no job claims."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import RateLimited, RemoteJobNotFound, RequestRejected
from ryla_tasks.jobs.falling_back import has_present_input
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.states import POLLED
from ryla_tasks.jobs.stats import NO_STATS
from ryla_tasks.logs import Log, about
from ryla_tasks.tasks.budget import terms_of
from ryla_tasks.tasks.cells import cancel_cells
from ryla_tasks.tasks.messages import send_cancel, send_deliveries, send_poll
from ryla_tasks.tasks.runtime import Runtime, runtime_of

__all__ = ["adopt_remote", "cancel_job", "cancel_orphan"]

log = Log(__name__)

#: Longer than a cancel takes with all its repetitions.
_CALL_LEASE_S = 120.0

_LONGEST_HOLD_S = 60.0


def cancel_job(app: Celery, job_id: str) -> None:
    """Tell the cloud to cancel a job, and have it polled at once: what the poll sees decides its end.

    Raises `TransientError` where the cloud could not be told; the sweeper sees to it that it is tried again.
    """
    runtime = runtime_of(app)
    record, _now = runtime.store.load(job_id)
    if record.spec.cells:
        cancel_cells(app, record)
        return
    if record.state in POLLED and record.remote_id and _is_to_stop(runtime, record):
        # Thousands may leave a target together; whoever wants his job stopped does not wait behind them.
        with _call(runtime, record.target, f"cancel|{job_id}", patient=not record.cancel) as admitted:
            if not admitted:
                return
            with about(record):
                _cancel(runtime, record.target, record.remote_id)
    wake_s, target = runtime.store.cancel_sent(job_id)
    send_poll(app, target, wake_s)


def cancel_orphan(app: Celery, orphan: str) -> None:
    """Tell the cloud to cancel a remote job (`TARGET REMOTE_ID`) whose job has gone on without it."""
    runtime = runtime_of(app)
    target, remote_id = orphan.rsplit(" ", 1)
    with _call(runtime, target, f"orphan|{orphan}") as admitted:
        if not admitted:
            return
        _cancel(runtime, target, remote_id)
    runtime.store.orphan_done(target, remote_id)


def adopt_remote(app: Celery, job_id: str, attempt: int, remote_id: str) -> None:
    """A remote job was named for an attempt whose submit had no answer. The endpoint is asked before it is believed.

    Raises `TransientError` where it could not be asked.
    """
    runtime = runtime_of(app)
    record, now = runtime.store.load(job_id)
    target = record.target if attempt == record.attempt else dict(record.unanswered).get(attempt)
    if target is None:
        return
    named = record.with_(attempt=attempt, target=target, remote_id=remote_id)
    provider, endpoint_id = runtime.provider(target)
    runtime.store.spend_call(target, "status", runtime.status_rate(runtime.target(target)))
    try:
        remote = provider.status(endpoint_id, remote_id)
    except RemoteJobNotFound:
        log.warning("adopt.no_such_job", named)
        return
    log.info("adopt.found", named, status=remote.status)
    crashpoint("after_adoption_ask_before_record")
    if attempt != record.attempt and remote.status is RemoteStatus.COMPLETED:
        # The output of an input that a fallback has taken the place of is no result of the job as it stands.
        if has_present_input(record, attempt):
            terms = terms_of(runtime.target(target), NO_STATS)
            _word, deliveries = runtime.store.adopt_twin(record, target, remote_id, now, terms)
            send_deliveries(app, deliveries)
        return
    # Of an attempt that was made again meanwhile it becomes an orphan, and is cancelled.
    accepted = runtime.store.accept(record.with_(attempt=attempt, target=target), remote_id, 0.0, now)
    send_poll(app, target, accepted.wake_s)
    if accepted.cancelling:
        send_cancel(app, job_id=job_id)
    if accepted.orphan:
        send_cancel(app, orphan=f"{target} {remote_id}")


def _is_to_stop(runtime: Runtime, record: JobRecord) -> bool:
    """Whether the remote job is to be cancelled. One that only leaves its target is asked after first: where it has
    begun to run, it stays. (Nothing can be done about one that begins in the moment between.)"""
    if record.cancel or not record.observed.leaving:
        return bool(record.cancel)
    provider, endpoint_id = runtime.provider(record.target)
    runtime.store.spend_call(record.target, "status", runtime.status_rate(runtime.target(record.target)))
    return provider.status(endpoint_id, record.remote_id).status is RemoteStatus.IN_QUEUE


@contextmanager
def _call(runtime: Runtime, target: str, wanted: str, *, patient: bool = False) -> Iterator[bool]:
    """A cancel within the limits of the target. False means that there is none now: what is `wanted` stands in the
    outbox, for when there may be one."""
    rate = runtime.cancel_rate(runtime.target(target))
    pass_ = runtime.store.take_call(target, "cancel", rate, lease_s=_CALL_LEASE_S, wanted=wanted, patient=patient)
    try:
        yield pass_ is not None
    finally:
        if pass_ is not None:
            runtime.store.give_call(target, "cancel", pass_)


def _cancel(runtime: Runtime, target: str, remote_id: str) -> None:
    provider, endpoint_id = runtime.provider(target)
    try:
        crashpoint("before_remote_cancel")
        answer = provider.cancel(endpoint_id, remote_id)
        crashpoint("after_remote_cancel")
    except (RemoteJobNotFound, RequestRejected) as error:
        # It has ended, or never was: the next poll says which.
        log.info("cancel.nothing", target=target, remote=remote_id, error=type(error).__name__)
    except RateLimited as error:
        runtime.store.hold(target, "cancel", min(error.retry_after or 1.0, _LONGEST_HOLD_S))
        raise
    else:
        log.info("cancel.sent", target=target, remote=remote_id, status=answer.status)
