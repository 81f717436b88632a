"""Plans of a sheet's cells as JSON, so that a worker can carry out what was planned where the sheet was enqueued.

Input images that several cells share are kept once: a sheet is made of one base image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.tasks.plan import CellPlan, FallbackPlan, JobPlan

__all__ = ["cell_plan", "cells_input"]


def cells_input(cells: Sequence[CellPlan], kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A sheet's input: the plans of its cells, and what stands in its result of those that are `kept`."""
    images: dict[str, Any] = {}
    plans = {cell.name: _to_json(cell.plan, images) for cell in cells}
    return {"cells": plans, "images": images, "kept": dict(kept)}


def cell_plan(sheet_input: Mapping[str, Any], name: str) -> JobPlan:
    """The plan of one cell, from its sheet's input."""
    return _from_json(sheet_input["cells"][name], sheet_input["images"])


def _to_json(plan: JobPlan, images: dict[str, Any]) -> dict[str, Any]:
    return {
        "input": _without_images(plan.input, images),
        "endpoint": plan.endpoint,
        "expected_images": plan.expected_images,
        "seed": plan.seed,
        "expected_run_s": plan.expected_run_s,
        "label": plan.label,
        "needs": list(plan.needs),
        "fallbacks": [
            {
                "plan": _to_json(one.plan, images),
                "on": None if one.on is None else list(one.on),
                "kind": str(FallbackKind(one.kind)),
                "source": one.source,
                "to": one.to,
            }
            for one in plan.fallbacks
        ],
    }


def _from_json(kept: Mapping[str, Any], images: Mapping[str, Any]) -> JobPlan:
    return JobPlan(
        _with_images(kept["input"], images),
        endpoint=kept["endpoint"],
        expected_images=kept["expected_images"],
        seed=kept["seed"],
        expected_run_s=kept["expected_run_s"],
        label=kept["label"],
        needs=tuple(kept["needs"]),
        fallbacks=tuple(
            FallbackPlan(
                _from_json(one["plan"], images), on=one["on"], kind=one["kind"], source=one["source"], to=one["to"]
            )
            for one in kept["fallbacks"]
        ),
    )


def _without_images(job_input: Mapping[str, Any], images: dict[str, Any]) -> dict[str, Any]:
    """The input with marks in place of its images, which go to `images`. Another image of the same name stays."""
    own = job_input.get("images")
    if not isinstance(own, Sequence) or isinstance(own, str):
        return dict(job_input)
    marked: list[Any] = []
    for image in own:
        name = image.get("name") if isinstance(image, Mapping) else None
        if isinstance(name, str) and images.setdefault(name, image) == image:
            marked.append({"shared": name})
        else:
            marked.append({"own": image})
    return {**job_input, "images": marked}


def _with_images(job_input: Mapping[str, Any], images: Mapping[str, Any]) -> dict[str, Any]:
    marked = job_input.get("images")
    if not isinstance(marked, list):
        return dict(job_input)
    return {**job_input, "images": [images[one["shared"]] if "shared" in one else one["own"] for one in marked]}
