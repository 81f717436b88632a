"""Jobs for either side, enqueued in a process of their own: the settings are those of the environment."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from benchmarks.system import OURS, ROOT, System, eventually

__all__ = ["fill", "job_input"]


def job_input(number: int, **simulate: Any) -> dict[str, Any]:
    """An input of a usual size (about a kilobyte); `mark` tells the job apart at the simulator."""
    text = {"mark": number, "prompt": "a lighthouse at dusk, " * 40, "seed": number}
    return {**text, "simulate": simulate} if simulate else text


def fill(system: System, app: str, jobs: int, *, before: int = 0, **settings: Any) -> None:
    """Enqueue jobs and wait until the endpoint has them all, and those that it had `before`."""
    subprocess.run(
        [sys.executable, "-m", "benchmarks.fill", app, str(jobs)],
        cwd=ROOT, env=system.environment(**settings), check=True,
    )  # fmt: skip
    eventually(
        lambda: system.accepted() >= before + jobs,
        timeout=60 + jobs / 50,
        every=0.25,
        what=f"{jobs} jobs are in flight",
    )
    if app == OURS:
        # A job may have been submitted before its message was its turn; what is left of these is no polling.
        eventually(
            lambda: not system.messages("ryla.jobs"), timeout=30 + jobs / 50, what="all submit messages are gone"
        )


def main(app: str, jobs: int) -> None:
    if app == OURS:
        import ryla_tasks

        for number in range(jobs):
            ryla_tasks.run_endpoint.delay("bench", job_input(number))
    else:
        from benchmarks.plain_celery import run_job

        for number in range(jobs):
            run_job.delay(job_input(number))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
