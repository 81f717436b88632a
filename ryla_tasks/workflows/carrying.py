"""Taking the parameters of one template over to another, as far as they fit there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ryla_tasks.errors import InvalidJob
from ryla_tasks.workflows.manifest import Manifest
from ryla_tasks.workflows.parameters import (
    FloatParameter,
    IntParameter,
    Parameter,
    SeedParameter,
    TextParameter,
)

__all__ = ["carried", "mismatch"]

#: Kinds of parameters whose values mean the same, so that one may stand for another.
_ALIKE = ({"int", "float"}, {"text", "choice"}, {"bool"}, {"seed"}, {"image"})

_TOLERANCE = 1e-6


def mismatch(ours: Manifest, theirs: Manifest, renamed: Mapping[str, str]) -> str:
    """Why the parameters of `ours` can never be taken over to `theirs`; empty where they can."""
    for mine, other in renamed.items():
        source, target = _offered(ours, mine), _offered(theirs, other)
        if source is None:
            return f"params: {ours.name!r} has no parameter {mine!r}"
        if target is None:
            return f"params: {theirs.name!r} has no parameter {other!r}"
        if not _alike(source, target):
            return f"params: {mine!r} is {source.type}, and {other!r} of {theirs.name!r} is {target.type}"
    sources = _sources(ours, theirs, renamed)
    for parameter in theirs.parameters:
        if parameter.required and not parameter.internal and parameter.name not in sources:
            return f"{theirs.name!r} requires {parameter.name!r}, for which {ours.name!r} has no parameter of its kind"
    return ""


def carried(
    ours: Manifest, theirs: Manifest, renamed: Mapping[str, str], given: Mapping[str, Any], used: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The parameters for `theirs`: what was given for `ours`, and the seed that it uses; None where they do not fit.

    What was not given is left to the other's defaults, unless it requires it: then it gets what was used. Numbers are
    brought within the other's bounds and steps, text is cut at its end, and what it does not admit is left out.
    """
    values: dict[str, Any] = {}
    for name, source in _sources(ours, theirs, renamed).items():
        target = theirs.parameter(name)
        assert target is not None
        wanted = given.get(source) is not None or target.required or isinstance(target, SeedParameter)
        value = _fitted(target, used.get(source)) if wanted else None
        if value is not None:
            values[name] = value
        elif target.required:
            return None
    return values


def _sources(ours: Manifest, theirs: Manifest, renamed: Mapping[str, str]) -> dict[str, str]:
    """For each parameter of `theirs` that has one: its counterpart among `ours`."""
    found = {other: mine for mine, other in renamed.items()}
    for parameter in theirs.parameters:
        if parameter.internal or parameter.name in found:
            continue
        same = _seed_of(ours) if isinstance(parameter, SeedParameter) else _offered(ours, parameter.name)
        if same is not None and same.name not in renamed and _alike(same, parameter):
            found[parameter.name] = same.name
    return found


def _offered(manifest: Manifest, name: str) -> Parameter | None:
    parameter = manifest.parameter(name)
    return None if parameter is None or parameter.internal else parameter


def _seed_of(manifest: Manifest) -> Parameter | None:
    """There is one at most, whatever its name."""
    return next((parameter for parameter in manifest.parameters if isinstance(parameter, SeedParameter)), None)


def _alike(one: Parameter, other: Parameter) -> bool:
    return any({one.type, other.type} <= kinds for kinds in _ALIKE)


def _fitted(parameter: Parameter, value: Any) -> Any:
    """The value as the parameter admits it, or None."""
    match parameter:
        case IntParameter():
            value = parameter.min + parameter.step * _steps(value, parameter.min, parameter.max, parameter.step)
        case FloatParameter(step=None):
            value = min(max(value, parameter.min), parameter.max)
        case FloatParameter(step=float(step)):
            # Tenths do not add up exactly.
            value = min(parameter.min + step * _steps(value, parameter.min, parameter.max, step), parameter.max)
        case SeedParameter():
            value = value % (parameter.max + 1)
        case TextParameter():
            value = value[: parameter.max_length]
    try:
        return parameter.accept(value)
    except InvalidJob:
        return None


def _steps(value: float, least: float, most: float, step: float) -> int:
    """How many steps above the least the value is, at the nearest step that is not above the most."""
    inside = min(max(value, least), most)
    return min(round((inside - least) / step), math.floor((most - least) / step + _TOLERANCE))
