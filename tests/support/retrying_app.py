"""An app with ryla_tasks and tasks of its own that have retry rules, for a worker and for its caller."""

from __future__ import annotations

from typing import Any

import ryla_tasks
from ryla_tasks import ServerlessTask
from ryla_tasks.errors import JobFailed, OutputInvalid, TransientError

app = ryla_tasks.app


@app.task(
    base=ServerlessTask,
    endpoint="echo",
    name="retrying.patient",
    autoretry_for=(JobFailed, TransientError),
    dont_autoretry_for=(OutputInvalid,),
    max_retries=2,
    retry_backoff=1,
    retry_jitter=False,
    shared=False,
)
def patient(**job_input: Any) -> dict[str, Any]:
    """Tries a failed job again, twice."""
    return job_input


@app.task(base=ServerlessTask, endpoint="echo", name="retrying.never", autoretry_for=(), shared=False)
def never(**job_input: Any) -> dict[str, Any]:
    """Tries nothing again, not even a 429."""
    return job_input
