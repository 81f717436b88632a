"""What a Flask app hears of its jobs, as blinker signals with the app as sender.

    @job_ended.connect
    def save(app, job, record, **_): ...

blinker keeps no function alive: one that is defined inside another, as in an app factory, is connected with
`weak=False`.
"""

from __future__ import annotations

from typing import Any

from blinker import Namespace
from flask import Flask

from ryla_tasks import signals
from ryla_tasks.job import Job
from ryla_tasks.jobs.record import JobRecord

__all__ = ["Bridge", "job_accepted", "job_ended"]

_signals = Namespace()

#: A job that a browser asked for has been accepted, with `job` (a `Job`), `visitor` and `wish` (what was asked for, a
#: dict). Sent in the web process, within the request, at most once for each request; a request that is made again with
#: the same Idempotency-Key has the same job.
job_accepted = _signals.signal("ryla-job-accepted")

#: A job has ended, of whatever kind and whoever enqueued it, with `job` and `record`. Sent in the worker process,
#: within the app's context, **at least once**, as `ryla_tasks.signals.job_ended` is: a receiver must bear to be called
#: twice for the same job, and one that raises is called again. So the worker has to have the app: `flask ryla-worker`.
job_ended = _signals.signal("ryla-job-ended")


class Bridge:
    """Passes the ends of jobs on to one Flask app, for as long as the app lives."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        # Weak: an app factory may be called many times in a process, and apps that are gone hear nothing.
        signals.job_ended.connect(self.pass_on, dispatch_uid=f"flask {id(self)}")

    def pass_on(self, *, job: Job, record: JobRecord, **_more: Any) -> None:
        """Call every receiver, whatever the others do. Raises what the first that failed has raised."""
        failed: Exception | None = None
        with self._app.app_context():
            for receiver in job_ended.receivers_for(self._app):
                try:
                    receiver(self._app, job=job, record=record)
                except Exception as error:
                    self._app.logger.exception("A receiver of job_ended failed for job %s", job.id)
                    failed = failed or error
        if failed is not None:
            raise failed
