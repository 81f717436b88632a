"""Whether a manifest fits its workflow: every name in it means something there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ryla_tasks.workflows import optional
from ryla_tasks.workflows.manifest import Manifest
from ryla_tasks.workflows.parameters import (
    BoolParameter,
    FloatParameter,
    ImageParameter,
    IntParameter,
    Parameter,
    SeedParameter,
    Target,
    TextParameter,
)
from ryla_tasks.workflows.workflow import is_link

__all__ = ["misfit", "model_places"]

_JSON_TYPES: dict[type, tuple[type, ...]] = {
    TextParameter: (str,),
    IntParameter: (int,),
    SeedParameter: (int,),
    FloatParameter: (int, float),
    BoolParameter: (bool,),
    ImageParameter: (str,),
}


def misfit(manifest: Manifest, workflow: Mapping[str, Any]) -> str | None:
    """What in the manifest does not fit the workflow, or None."""
    for parameter in manifest.parameters:
        for target in parameter.targets:
            if problem := _target_problem(parameter, target, workflow):
                return f"parameter {parameter.name!r}: {problem}"
    for joined in manifest.joined:
        if problem := _input_problem("text", (str,), joined.target, workflow):
            return f"joined: {problem}"
    if problem := optional.misfit(manifest.optional, workflow):
        return problem
    if absent := [node for node in manifest.output_nodes if node not in workflow]:
        return f"output node {absent[0]!r} is not in the workflow"
    if different := set(manifest.nodes) ^ {node["class_type"] for node in workflow.values()}:
        return f"nodes and workflow differ in {', '.join(sorted(different))}"
    literals = {value for node in workflow.values() for value in node["inputs"].values() if isinstance(value, str)}
    known = {model.file for model in manifest.models}
    for rule in manifest.fallbacks:
        if foreign := [file for file in rule.models or () if file not in known]:
            return f"fallbacks: model file {foreign[0]!r} is not one of its models"
    if unused := [model.file for model in manifest.models if not model.implied and model.file not in literals]:
        return f"model file {unused[0]!r} is not in the workflow"
    return None


def model_places(manifest: Manifest, workflow: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The inputs that name a model file: node and name."""
    files = {model.file for model in manifest.models}
    return tuple(
        (node_id, name)
        for node_id, node in workflow.items()
        for name, value in node["inputs"].items()
        if isinstance(value, str) and value in files
    )


def _target_problem(parameter: Parameter, target: Target, workflow: Mapping[str, Any]) -> str | None:
    return _input_problem(parameter.type, _JSON_TYPES.get(type(parameter)), target, workflow)


def _input_problem(
    kind: str, types: tuple[type, ...] | None, target: Target, workflow: Mapping[str, Any]
) -> str | None:
    if target.node not in workflow:
        return f"node {target.node!r} is not in the workflow"
    inputs = workflow[target.node]["inputs"]
    if target.input not in inputs:
        return f"node {target.node!r} has no input {target.input!r}"
    current = inputs[target.input]
    if is_link(current):
        return f"input {target.input!r} of node {target.node!r} is a link to another node"
    if types and not (isinstance(current, types) and isinstance(current, bool) == (types == (bool,))):
        return f"input {target.input!r} of node {target.node!r} holds no {kind}"
    return None
