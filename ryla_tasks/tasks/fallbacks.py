"""The fallbacks of a plan, in a row: what the job's spec keeps of them, and the inputs that the store keeps."""

from __future__ import annotations

from dataclasses import replace

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.jobs.alternative import Alternative
from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.jobs.falling_back import MOST_FALLBACKS, problem_with
from ryla_tasks.settings import Endpoint
from ryla_tasks.tasks.plan import FallbackPlan, JobPlan, encode_input, expected_run_s, targets_with

__all__ = ["alternatives_of"]


def alternatives_of(plan: JobPlan, endpoint: Endpoint) -> tuple[tuple[Alternative, ...], tuple[str, ...]]:
    """All fallbacks of a plan, each followed by its own, and their inputs as JSON.

    One that needs models which no target has is left out, and its own with it. Raises `ConfigurationError` for a
    fallback that cannot be one, `InvalidJob` for an input that cannot be sent.
    """
    row: list[Alternative] = []
    inputs: list[str] = []
    _add(plan, endpoint, row, inputs)
    if len(row) > MOST_FALLBACKS:
        raise ConfigurationError(f"{plan.label or 'the job'}: has {len(row)} fallbacks, more than {MOST_FALLBACKS}")
    return tuple(row), tuple(inputs)


def _add(plan: JobPlan, endpoint: Endpoint, row: list[Alternative], inputs: list[str]) -> None:
    for fallback in plan.fallbacks:
        place, found = len(row), _alternative(plan, fallback, endpoint, len(row))
        if found is None:
            continue
        row.append(found)
        inputs.append(encode_input(fallback.plan))
        _add(fallback.plan, endpoint, row, inputs)
        row[place] = replace(found, own=len(row) - place - 1)


def _alternative(plan: JobPlan, fallback: FallbackPlan, endpoint: Endpoint, place: int) -> Alternative | None:
    kind, other = FallbackKind(fallback.kind), fallback.plan
    source, to = fallback.source or plan.label or "input", fallback.to or other.label or "another input"
    if problem := _problem(kind, fallback, endpoint):
        raise ConfigurationError(f"fallback from {source!r} to {to!r}: {problem}")
    only = targets_with(endpoint, other.needs)
    if only is None:
        return None
    return Alternative(
        kind,
        source,
        to,
        fallback.codes,
        place,
        expected_run_s=expected_run_s(other),
        expected_images=other.expected_images,
        seed=other.seed,
        label=other.label,
        only=only,
    )


def _problem(kind: FallbackKind, fallback: FallbackPlan, endpoint: Endpoint) -> str:
    if kind is FallbackKind.ENDPOINT:
        return "another endpoint is no fallback of a plan: give the endpoint another target in the settings"
    if fallback.plan.endpoint not in ("", endpoint.name):
        return f"it is for the endpoint {fallback.plan.endpoint!r}; a fallback goes to the endpoint of its job"
    return problem_with(fallback.codes, kind)
