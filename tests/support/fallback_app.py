"""An app with ryla_tasks and tasks of its own that have fallbacks, for a worker and for its caller."""

from __future__ import annotations

from typing import Any

import ryla_tasks
from ryla_tasks import FallbackPlan, JobPlan, ServerlessTask

__all__ = ["app", "upscale"]

app = ryla_tasks.app


@app.task(base=ServerlessTask, endpoint="echo", name="fallback.upscale", shared=False)
def upscale(large: dict[str, Any], *others: dict[str, Any], on: list[str] | None = None) -> JobPlan:
    """The simulator is told how the input goes, and each of those that may take its place."""
    plans = (JobPlan({"simulate": one}, label=f"small-{n}", seed=n) for n, one in enumerate(others, start=1))
    fallbacks = tuple(FallbackPlan(plan, on=on) for plan in plans)
    return JobPlan({"simulate": large}, label="large", seed=0, fallbacks=fallbacks)
