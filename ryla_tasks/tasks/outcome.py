"""What follows from a decision once the store has it: the job's next message."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.logs import Log
from ryla_tasks.store.answers import Claim, Settled
from ryla_tasks.tasks.messages import send_poll, send_step

__all__ = ["carry_out", "follow", "may_resubmit", "may_retry"]

log = Log(__name__)


def may_retry(app: Celery, task_name: str) -> Callable[[Exception], bool]:
    """The retry rule of a job's task; a task that this worker does not know never retries."""
    return _rule(app, task_name, "may_retry")


def may_resubmit(app: Celery, task_name: str) -> Callable[[Exception], bool]:
    """Whether a job's task leaves it to the verdict what follows from a failed remote job."""
    return _rule(app, task_name, "may_resubmit")


def _rule(app: Celery, task_name: str, name: str) -> Callable[[Exception], bool]:
    rule: Callable[[Exception], bool] | None = getattr(app.tasks.get(task_name), name, None)
    return rule or _never


def _never(_error: Exception) -> bool:
    return False


def follow(app: Celery, settled: Settled, decisions: dict[str, Decision], *, own: str = "") -> None:
    """Send the messages that a settle left to send: none for `own`, the job whose message is at work."""
    others = [delivery for delivery in settled.envelopes if delivery.job_id != own]
    for delivery in others:
        decision = decisions.get(delivery.job_id)
        if decision is not None and decision.event == "fallback":
            _log_fallback(decision.record)
        step = Step.SUBMIT if decision is not None and decision.step is Step.SUBMIT else Step.DELIVER
        send_step(app, delivery, step, countdown=decision.in_s if decision is not None else 0.0)


def _log_fallback(record: JobRecord) -> None:
    line = record.fallbacks[-1]
    log.warning("job.fallback", record, kind=line.kind, source=line.source, to=line.to, why=line.why)


def carry_out(app: Celery, claim: Claim, decision: Decision, settled: Settled, *, own: str = "") -> None:
    """The same for one claimed job; one that is polled (again) may need its target's poll message."""
    follow(app, settled, {claim.record.job_id: decision}, own=own)
    if decision.step is Step.POLL and all(settled.counted):
        send_poll(app, claim.record.target, decision.in_s)
