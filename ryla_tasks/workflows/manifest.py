"""A template's manifest: what it is for, what can be set, and what the endpoint must have."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.jobs.falling_back import problem_with
from ryla_tasks.workflows.optional import OptionalPart, is_empty
from ryla_tasks.workflows.parameters import (
    BoolParameter,
    ChoiceParameter,
    ImageParameter,
    IntParameter,
    Parameter,
    SeedParameter,
    Target,
    TextParameter,
)

__all__ = ["FallbackRule", "JoinedText", "Manifest", "ModelFile"]


_FileName = Annotated[str, Field(min_length=1)]


class ModelFile(BaseModel):
    """A model file that the workflow loads: its folder under ComfyUI's `models`, and its name there.

    `implied` is one that no input of the workflow names: a node finds it by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    file: _FileName
    implied: bool = False


class JoinedText(BaseModel):
    """An input that gets the texts of several parameters in their order, `separator` between them; empty ones are left
    out. They are joined literally, so no value can stand for another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    target: Target
    parameters: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    separator: str = ", "


class FallbackRule(BaseModel):
    """What to try where the workflow fails with one of the codes `on` (docs/fallbacks.md says which are the usual).

    Either `models`, the same workflow with other model files (`{"big.safetensors": "small.safetensors"}`), or
    `template`, another one. That gets the parameters of the same name and kind; `params` renames (`{ours: theirs}`).
    Where one of the parameters in `unless` is given, and not empty, it would be no help, and is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    models: dict[_FileName, _FileName] | None = None
    template: Annotated[str, Field(min_length=1)] | None = None
    params: dict[str, str] = {}
    on: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None
    unless: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.models) == (self.template is not None):
            raise ValueError("a fallback has either models or a template")
        if self.models and self.params:
            raise ValueError("params are for another template; with other models the parameters stay as they are")
        if same := [file for file, other in (self.models or {}).items() if file == other]:
            raise ValueError(f"models: {same[0]!r} stands for itself")
        if len(set(self.params.values())) < len(self.params):
            raise ValueError("params: two parameters go to the same one")
        kind = FallbackKind.MODEL if self.models else FallbackKind.WORKFLOW
        if problem := problem_with(self.on or (), kind):
            raise ValueError(f"on: {problem}")
        return self


class Manifest(BaseModel):
    """What `manifest.json` holds.

    `nodes` are the class types that the endpoint's ComfyUI must know, `models` the files that it must find.
    `output_nodes` are the ids of the nodes that save images; together they make `images` of them, times the value of
    `batch_parameter` where there is one. `expected_seconds` is the usual time of one run on a warm worker. `fallbacks`
    are what is tried, in this order, where the workflow fails. `optional` are parts that are left out where a parameter
    is empty, `joined` inputs that are made of several parameters. `base_model` is the family that its LoRAs must be
    trained for (flux, sdxl, qwen, z-image), empty where that is not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
    title: Annotated[str, Field(min_length=1)]
    description: Annotated[str, Field(min_length=1)]
    base_model: str = ""
    parameters: Annotated[tuple[Parameter, ...], Field(strict=False)]
    nodes: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    models: Annotated[tuple[ModelFile, ...], Field(strict=False)]
    output_nodes: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    images: Annotated[int, Field(ge=1)] = 1
    batch_parameter: str | None = None
    expected_seconds: Annotated[float, Field(gt=0)]
    fallbacks: Annotated[tuple[FallbackRule, ...], Field(strict=False)] = ()
    optional: Annotated[tuple[OptionalPart, ...], Field(strict=False)] = ()
    joined: Annotated[tuple[JoinedText, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = Counter(parameter.name for parameter in self.parameters)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"parameter {repeated[0]!r} is there twice")
        targets = Counter(target for parameter in self.parameters for target in parameter.targets)
        targets.update(joined.target for joined in self.joined)
        if shared := [target for target, count in targets.items() if count > 1]:
            raise ValueError(f"input {shared[0].input!r} of node {shared[0].node!r} is a target twice")
        if sum(isinstance(parameter, SeedParameter) for parameter in self.parameters) > 1:
            raise ValueError("there is more than one seed; give one seed several targets")
        if self.batch_parameter is not None and not isinstance(self.parameter(self.batch_parameter), IntParameter):
            raise ValueError(f"batch_parameter {self.batch_parameter!r} is not one of the int parameters")
        if problem := self._loose_parameter() or self._wrong_name():
            raise ValueError(problem)
        return self

    def _loose_parameter(self) -> str:
        """What is said of a parameter whose value would go nowhere."""
        used = {name for joined in self.joined for name in joined.parameters}
        used |= {part.parameter for part in self.optional}
        for parameter in self.parameters:
            if not parameter.targets and parameter.name not in used:
                return f"parameter {parameter.name!r} has no targets"
        return ""

    def _wrong_name(self) -> str:
        """What is said of a name of a parameter that is none, or is one of another kind."""
        for part in self.optional:
            if not _may_be_empty(self.parameter(part.parameter)):
                return f"optional part: {part.parameter!r} is no parameter that may be empty or false"
        for parameter in self.parameters:
            gone = {node for part in self.optional if part.parameter == parameter.name for node in part.bypass}
            loose = isinstance(parameter, ImageParameter) and any(one.node not in gone for one in parameter.targets)
            if loose and not parameter.required:
                return f"image {parameter.name!r} may be left out, so its nodes must be an optional part of it"
        for joined in self.joined:
            for name in joined.parameters:
                if not isinstance(self.parameter(name), (TextParameter, ChoiceParameter)):
                    return f"joined: {name!r} is no text parameter and no choice"
        for rule in self.fallbacks:
            for name in rule.unless:
                if self.parameter(name) is None:
                    return f"fallbacks: unless: there is no parameter {name!r}"
        return ""

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of this name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


def _may_be_empty(parameter: Parameter | None) -> bool:
    match parameter:
        case TextParameter(min_length=0) | BoolParameter():
            return True
        case ImageParameter(default=default):
            return is_empty(default)
    return False
