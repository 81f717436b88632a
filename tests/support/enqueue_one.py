"""Enqueues one job in a process of its own, as a web request would, and says what came of it as JSON.

python -m tests.support.enqueue_one TASK_ID
"""

from __future__ import annotations

import json
import sys
import time

import ryla_tasks


def main(task_id: str) -> None:
    began = time.monotonic()
    try:
        result = ryla_tasks.run_endpoint.apply_async(("echo", {"n": 1}), task_id=task_id)
        answer = {"id": result.id}
    except ryla_tasks.errors.RylaError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps({**answer, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
