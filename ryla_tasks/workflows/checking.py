"""A whole template held against the nodes of a ComfyUI: every combination of its optional parts, and its bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ryla_tasks.workflows.nodes import Findings, MissingModel, Problem, check_nodes, declared_input
from ryla_tasks.workflows.optional import is_empty
from ryla_tasks.workflows.parameters import (
    ChoiceParameter,
    FloatParameter,
    ImageParameter,
    IntParameter,
    Parameter,
    SeedParameter,
    TextParameter,
)
from ryla_tasks.workflows.template import Template

__all__ = ["check_template", "combinations", "sample"]

#: More optional parts than this are not tried in all combinations.
_MOST_SWITCHES = 8


def check_template(template: Template, nodes: Mapping[str, Any]) -> Findings:
    """Hold a template against `nodes`: with each combination of its optional parts, and the bounds of its parameters.

    Model files that stand for those a user gives, as that of a LoRA, are not looked for.
    """
    seen: dict[Any, None] = {}
    for values in combinations(template):
        rendered = template.render_with(values)
        findings = check_nodes(rendered.workflow, nodes)
        given = {value for value in values.values() if isinstance(value, str)}
        seen |= dict.fromkeys([*findings.missing_nodes, *findings.problems, *findings.warnings])
        seen |= dict.fromkeys(model for model in findings.missing_models if model.file not in given)
    seen |= dict.fromkeys(_out_of_bounds(template, nodes))
    problems = [one for one in seen if isinstance(one, Problem)]
    return Findings(
        tuple(one for one in seen if isinstance(one, str)),
        tuple(one for one in seen if isinstance(one, MissingModel)),
        tuple(one for one in problems if one.kind != "unknown_input"),
        tuple(one for one in problems if one.kind == "unknown_input"),
    )


def sample(parameter: Parameter) -> Any:
    """A value that the parameter admits: its default, or one made up. None for a seed, which is drawn."""
    if parameter.default_value is not None and not is_empty(parameter.default_value):
        return parameter.default_value
    match parameter:
        case ImageParameter():
            return "example.png"
        case TextParameter():
            wanted = "lora.safetensors" if parameter.name == "lora" else "a lighthouse at dusk"
            return wanted[: parameter.max_length].ljust(parameter.min_length, "x")
        case IntParameter() | FloatParameter():
            return parameter.min
        case ChoiceParameter():
            return parameter.choices[0]
        case SeedParameter():
            return None
    return True


def combinations(template: Template) -> Iterator[dict[str, Any]]:
    """Parameters with which every optional part is on, and off, with every other one; a few where there are many."""
    manifest = template.manifest
    required = {one.name: sample(one) for one in manifest.parameters if one.required and not one.internal}
    switches = list(dict.fromkeys(part.parameter for part in manifest.optional))
    states: Iterator[tuple[bool, ...]] = itertools.product((False, True), repeat=len(switches))
    if len(switches) > _MOST_SWITCHES:
        states = iter([(False,) * len(switches), (True,) * len(switches)])
    for state in states:
        yield {**required, **{name: _switched(template, name, on=on) for name, on in zip(switches, state, strict=True)}}


def _switched(template: Template, name: str, *, on: bool) -> Any:
    parameter = template.manifest.parameter(name)
    assert parameter is not None
    if parameter.type == "bool":
        return on
    return sample(parameter) if on else ""


def _out_of_bounds(template: Template, nodes: Mapping[str, Any]) -> Iterator[Problem]:
    """Parameters that admit what their nodes do not."""
    workflow = template.workflow
    for parameter in template.manifest.parameters:
        for target in parameter.targets:
            class_type = workflow[target.node]["class_type"]
            kind, options = declared_input(nodes, class_type, target.input)
            for says in _beyond(parameter, kind, options):
                message = f"parameter {parameter.name!r} {says} input {target.input!r} of node {target.node!r} takes"
                yield Problem("parameter_out_of_bounds", message, target.node, class_type, target.input)


def _beyond(parameter: Parameter, kind: Any, options: Mapping[str, Any]) -> Iterator[str]:
    match parameter:
        case IntParameter() | FloatParameter():
            if parameter.min < options.get("min", parameter.min):
                yield f"admits less than the {options['min']} that"
            if parameter.max > options.get("max", parameter.max):
                yield f"admits more than the {options['max']} that"
        case SeedParameter():
            if parameter.max > options.get("max", parameter.max):
                yield f"admits more than the {options['max']} that"
        case ChoiceParameter():
            choices = kind if isinstance(kind, list) else options.get("options")
            put = [parameter.put(choice) for choice in parameter.choices]
            if choices and (foreign := [value for value in put if value not in choices]):
                yield f"admits {foreign[0]!r}, which is none of the values that"
