"""Telling an app, in the worker process, that a job has ended: before Celery is told, and until it has listened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryla_tasks.errors import StoreError
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.logs import Log
from ryla_tasks.signals import job_ended
from ryla_tasks.store.answers import Claim
from ryla_tasks.tasks.alerting import tell_operator
from ryla_tasks.tasks.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["announce", "announced"]

log = Log(__name__)

#: How often a receiver may fail. The pauses between the tries add up to about four minutes.
MOST_TRIES = 8
_FIRST_PAUSE_S = 2.0


def announced(task: ServerlessTask, claim: Claim, record: JobRecord) -> bool:
    """Tell all receivers of a job's end. False where one has failed and the claim was given back, to be told again."""
    try:
        failed = announce(task, record)
    except BaseException as error:
        # A receiver that calls sys.exit() must not take the worker's message with it.
        failed = type(error).__name__
        log.error("end.unheard", record, receiver="one that has left", error=failed)
    if not failed:
        return True
    runtime = runtime_of(task.app)
    try:
        tries = runtime.store.unheard(claim, _FIRST_PAUSE_S, MOST_TRIES)
    except StoreError as error:
        log.warning("end.not_released", record, error=error)
        return False
    if tries < MOST_TRIES:
        return False
    _give_up(runtime, record, failed)
    return True


def announce(task: ServerlessTask, record: JobRecord) -> str:
    """Tell all receivers once. Returns the name of the error of one that has failed, empty where none has."""
    if record.spec.sheet or not job_ended.receivers:
        return ""
    from ryla_tasks.job import Job

    failed = ""
    for receiver, answer in job_ended.send(sender=task, job=Job.of(record), record=record):
        if isinstance(answer, Exception):
            # Celery's signal has logged the traceback.
            failed = type(answer).__name__
            name = getattr(receiver, "__qualname__", type(receiver).__name__)
            log.error("end.unheard", record, receiver=name, error=failed)
    return failed


def _give_up(runtime: Runtime, record: JobRecord, failed: str) -> None:
    log.error("end.unheard_given_up", record, error=failed)
    details = f"a receiver of job_ended has failed {MOST_TRIES} times, the last time with {failed}"
    tell_operator(runtime.targets, "unheard", failed, job=record, details=details)
