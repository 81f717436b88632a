"""What an app may hear of its jobs.

    from ryla_tasks.signals import job_ended

    @job_ended.connect
    def save(sender, job, record, **_): ...

Django and Flask have signals of their own for it, made from this one (`ryla_tasks.contrib`).
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

__all__ = ["job_ended"]

#: A job has reached its end, of any kind. Sent in the worker process, before Celery is told, with `sender` (the job's
#: task), `job` (a `Job`) and `record` (its `JobRecord`; what it ended with is in `record.ending`).
#:
#: Sent **at least once**: again where a worker dies before it has told Celery, and again, after 2, 4, 8 ... seconds,
#: where a receiver raises; after eight tries that is given up, told as an alert, and Celery is told all the same. So a
#: receiver must bear to be called twice (`update_or_create` by the job's id), and should be quick: what follows the job
#: waits for it. The cells of a sheet send none; their sheet does. In eager mode it is sent once, by the caller.
job_ended = Signal(name="job_ended", providing_args=["job", "record"])
