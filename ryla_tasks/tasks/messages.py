"""Sending the messages that the store says are due. None of them must arrive: the sweeper sends what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery
from kombu.exceptions import OperationalError

from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.logs import Log
from ryla_tasks.store.answers import Delivery
from ryla_tasks.store.jobs import JobStore
from ryla_tasks.tasks.envelope import Envelope, send
from ryla_tasks.tasks.routes import ADOPT_TASK, CANCEL_TASK, LINE_TASK, POLL_TASK, TELL_TASK

__all__ = [
    "hand_on",
    "send_adoption",
    "send_cancel",
    "send_deliveries",
    "send_line",
    "send_poll",
    "send_step",
    "send_tell",
]

log = Log(__name__)


def hand_on(app: Celery, store: JobStore, place: str, step: Step) -> bool:
    """Send the message of the job that is next at a place: a step that cannot go on there leaves the rest to it.

    False where no job waits there for somebody to take it.
    """
    job_id = store.next_at(place)
    if job_id is None:
        return False
    send_step(app, store.delivery(job_id), step)
    return True


def send_poll(app: Celery, target: str, wake_s: float | None) -> None:
    """Send a target's poll message, if the store wants one."""
    if wake_s is None:
        return
    try:
        app.tasks[POLL_TASK].apply_async(kwargs={"target": target}, countdown=wake_s)
    except (OperationalError, OSError) as error:
        log.warning("message.not_sent", what="poll", target=target, error=type(error).__name__)


def send_line(app: Celery, endpoint: str, wake_s: float | None) -> None:
    """Send the message that has an endpoint's line go on, if the store wants one."""
    if wake_s is None:
        return
    try:
        app.tasks[LINE_TASK].apply_async(kwargs={"endpoint": endpoint}, countdown=wake_s)
    except (OperationalError, OSError) as error:
        log.warning("message.not_sent", what="line", endpoint=endpoint, error=type(error).__name__)


def send_tell(app: Celery, target: str) -> None:
    """Send the message that tells the jobs in line that their target is held back."""
    try:
        app.tasks[TELL_TASK].apply_async(kwargs={"target": target})
    except (OperationalError, OSError) as error:
        log.warning("message.not_sent", what="tell", target=target, error=type(error).__name__)


def send_cancel(app: Celery, *, job_id: str = "", orphan: str = "") -> None:
    """Send the message that has a remote job cancelled: a job's, or an orphan (`TARGET REMOTE_ID`)."""
    kwargs = {"job_id": job_id} if job_id else {"orphan": orphan}
    try:
        app.tasks[CANCEL_TASK].apply_async(kwargs=kwargs)
    except (OperationalError, OSError) as error:
        log.warning("message.not_sent", job_id, what="cancel", error=type(error).__name__)


def send_adoption(app: Celery, job_id: str, attempt: int, remote_id: str) -> None:
    """Send the message that looks at a remote job which a webhook named for an attempt without an answer.

    Raises what kombu raises where the broker cannot be reached: the webhook is then called again.
    """
    app.tasks[ADOPT_TASK].apply_async(kwargs={"job_id": job_id, "attempt": attempt, "remote_id": remote_id})


def send_deliveries(app: Celery, deliveries: Iterable[Delivery]) -> None:
    """Send the deliver messages of jobs that have come to their end."""
    for delivery in deliveries:
        send_step(app, delivery, Step.DELIVER)


def send_step(app: Celery, delivery: Delivery, step: Step, *, countdown: float = 0.0) -> None:
    """Send a job's own message for a step."""
    if not delivery.envelope:
        return
    try:
        send(app, Envelope(delivery.envelope), step, countdown=countdown)
    except (OperationalError, OSError) as error:
        log.warning("message.not_sent", delivery.job_id, what=step, error=type(error).__name__)
