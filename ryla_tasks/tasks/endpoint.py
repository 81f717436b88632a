"""`run_endpoint`: a job on any endpoint, with any input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ryla_tasks.errors import InvalidJob
from ryla_tasks.tasks.plan import JobPlan

__all__ = ["run_endpoint"]


def run_endpoint(*args: Any, **kwargs: Any) -> JobPlan:
    """Run an endpoint: `run_endpoint.delay("upscale", {"url": ...})`. The input goes to its handler as it is.

    In a chain the previous result comes first and is put into the input as `previous`, unless the input has that key.
    Files in the output become artifacts, and the rest is the result's `data`. Besides, every job takes the options of
    `JobOptions`.

    Raises `InvalidJob` naming the field, and `ConfigurationError` for an endpoint that no setting names.
    """
    previous, endpoint, job_input = _arguments(args, kwargs)
    if not isinstance(endpoint, str) or not endpoint:
        raise InvalidJob("endpoint: must be the name of an endpoint in the settings", field="endpoint")
    if not isinstance(job_input, Mapping) or not job_input:
        raise InvalidJob("input: must be a non-empty JSON object; RunPod fails jobs with an empty one", field="input")
    if previous is not None and "previous" not in job_input:
        job_input = {**job_input, "previous": previous}
    return JobPlan(job_input, endpoint=endpoint, label=endpoint)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """(previous, endpoint, input): a chain puts the previous result before what was given."""
    named = [kwargs.pop(name) for name in ("endpoint", "input") if name in kwargs]
    if kwargs:
        name = next(iter(kwargs))
        raise InvalidJob(f"{name}: run_endpoint takes endpoint, input and job options only", field=name)
    given = [*args, *named]
    if len(given) == 2:
        return None, given[0], given[1]
    if len(given) == 3:
        return given[0], given[1], given[2]
    raise InvalidJob("endpoint: give the endpoint's name and its input", field="endpoint")
