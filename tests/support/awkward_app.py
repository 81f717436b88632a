"""Our app with followers that cannot be sent, for a worker and for its caller.

`AWKWARD_AWAY` names a file: while it exists, the store is away for the task `waits`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ryla_tasks
from ryla_tasks import ServerlessTask
from ryla_tasks.errors import StoreUnavailable

app = ryla_tasks.app


@app.task(base=ServerlessTask, endpoint="echo", name="awkward.checked", shared=False)
def checked(previous: Any = None, n: int = 1) -> dict[str, Any]:
    """A job that checks its argument with an error of Python's own."""
    if n < 0:
        raise ValueError("n: must not be negative")
    return {"n": n}


@app.task(base=ServerlessTask, endpoint="lora", name="awkward.waits", shared=False)
def waits(previous: Any = None) -> dict[str, Any]:
    """A job that cannot be enqueued while the store is away."""
    if Path(os.environ["AWKWARD_AWAY"]).exists():
        raise StoreUnavailable("Redis did not answer", sent=False)
    return {"n": 1}


@app.task(name="awkward.no_arguments", shared=False)
def no_arguments() -> int:
    """Cannot follow anything that gives it a result."""
    return 1


@app.task(name="awkward.noted", shared=False)
def noted(*_args: Any) -> int:
    """Counts its runs."""
    count: int = app.backend.client.incr("awkward:noted")
    return count
