"""A web process: enqueues jobs, or looks at them, with the settings of its environment, and says it as JSON.

python -m tests.support.web enqueue COUNT SECONDS
python -m tests.support.web look ID...
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.fleet import Fleet

__all__ = ["enqueue", "look"]


def enqueue(fleet: Fleet, count: int, seconds: float, **env: str) -> list[str]:
    """Enqueue jobs that give back their number; their ids, in that order."""
    return list(_run(fleet, env, "enqueue", str(count), str(seconds)))


def look(fleet: Fleet, ids: list[str], **env: str) -> list[dict[str, Any]]:
    """How each job stands: its status, its task's state, its number (where it has a result), and its error."""
    return list(_run(fleet, env, "look", *ids))


def _run(fleet: Fleet, env: dict[str, str], *words: str) -> Any:
    command = [sys.executable, "-m", "tests.support.web", *words]
    done = subprocess.run(command, env=fleet.env(**env), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def main(what: str, *words: str) -> None:
    import ryla_tasks

    found: list[Any] = []
    if what == "enqueue":
        count, seconds = int(words[0]), float(words[1])
        for number in range(count):
            wish = {"n": number, "simulate": {"seconds": seconds}}
            found.append(ryla_tasks.run_endpoint.delay("echo", wish, on_unknown="fail").id)
    else:
        for job_id in words:
            job, task = ryla_tasks.Job.get(job_id), ryla_tasks.app.AsyncResult(job_id)
            done = task.state == "SUCCESS"
            number = task.result["data"]["n"] if done else None
            error = "" if job.error is None else type(job.error).__name__
            found.append({"status": str(job.status), "state": task.state, "n": number, "error": error})
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
