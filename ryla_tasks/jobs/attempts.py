"""Whether another attempt may follow a failed one. Pure.

Three things must agree: the task's rule, the budget, and for a failed remote job the verdict on its failure. A task
that lists an error's type in `autoretry_for` has decided for itself, as in Celery; otherwise the verdict decides for
tasks that retry what may pass. Nothing overrules the last rule: an input that has brought down two GPU workers is not
given to a third.
"""

from __future__ import annotations

from ryla_tasks.errors import Category, JobError
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.verdict import is_crash, may_pass

__all__ = ["MOST_CRASHES", "crashes_with", "worth_another"]

#: After so many GPU workers that broke off over it, the input is taken to be the cause.
MOST_CRASHES = 2

# What did not end by itself may well do the same again, and is paid for again: once more for work of seconds or
# minutes, never for a training of hours.
_RECOVERIES = {"lora": 0}
_RECOVERIES_DEFAULT = 1


def crashes_with(record: JobRecord, error: JobError) -> int:
    """How many GPU workers the job has brought down, with the attempt that failed with `error`.

    Where that is a crash, the runs count too that RunPod broke off before and gave to other GPU workers by itself: seen
    live, an input that no worker answers is run twice within one attempt (runpod-plugins-official, golden path 15).
    """
    return record.observed.crashes + (1 + record.observed.dispatches if is_crash(error) else 0)


def worth_another(record: JobRecord, error: Exception) -> bool:
    """Whether the verdict on a failed remote job speaks for a new attempt.

    Transient: as often as the job's budget allows. Recoverable: once, and not for trainings. Else never.
    """
    if not isinstance(error, JobError) or not may_pass(error):
        return False
    if error.category is Category.TRANSIENT:
        return True
    return record.observed.recoveries < _RECOVERIES.get(record.spec.kind, _RECOVERIES_DEFAULT)
