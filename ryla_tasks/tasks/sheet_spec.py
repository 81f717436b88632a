"""The record of a sheet: its spec and its input, from a plan with cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ryla_tasks.errors import InvalidJob
from ryla_tasks.jobs.record import JobSpec
from ryla_tasks.jobs.sheet import check_cells
from ryla_tasks.settings import Endpoint
from ryla_tasks.tasks.plan import JobOptions, JobPlan, build_spec, encode_input, expected_run_s
from ryla_tasks.tasks.plan_json import cells_input

__all__ = ["sheet_spec"]


def sheet_spec(
    task: str, plan: JobPlan, options: JobOptions, endpoint: Endpoint, rules: Mapping[str, Any]
) -> tuple[JobSpec, tuple[str, ...]]:
    """A sheet's spec, and its input as JSON. Its cells are checked as jobs of their own would be.

    Raises `InvalidJob` or `ConfigurationError`.
    """
    if plan.resumes and options.user_id != plan.user_id:
        raise InvalidJob(f"resume: the sheet {plan.resumes} is not this user's", field="resume")
    names = plan.names or (*plan.kept, *(cell.name for cell in plan.cells))
    check_cells(names, plan.min_cells)
    for cell in plan.cells:
        build_spec(task, cell.plan, options, endpoint, rules)
        encode_input(cell.plan)
    spec = build_spec(task, replace(plan, needs=()), options, endpoint, rules)
    spec = replace(
        spec,
        cells=names,
        kept=tuple(name for name in names if name in plan.kept),
        min_cells=plan.min_cells,
        resumes=plan.resumes,
        # The endpoint's own ceiling is one for each cell.
        max_cost_usd=options.max_cost_usd,
        expected_run_s=max([expected_run_s(cell.plan) for cell in plan.cells], default=1.0),
    )
    return spec, (encode_input(JobPlan(cells_input(plan.cells, plan.kept))),)
