"""Asking Celery for a result at the very moment of the job's end."""

from __future__ import annotations

import ryla_tasks
from tests.support.fleet import Fleet


def test_a_result_asked_for_at_the_moment_of_the_end_comes(served: Fleet) -> None:
    """The record ends a few milliseconds before Celery's result: who goes from one to the other hits that moment."""
    for _ in range(25):
        result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 0.01}})
        assert ryla_tasks.Job.get(result.id).wait(timeout=20) == result.get(timeout=5)
