"""A template's manifest: what it is for, what can be set, and what the endpoint must have."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.jobs.falling_back import problem_with
from ryla_tasks.workflows.parameters import IntParameter, Parameter, SeedParameter

__all__ = ["FallbackRule", "Manifest", "ModelFile"]


_FileName = Annotated[str, Field(min_length=1)]


class ModelFile(BaseModel):
    """A model file that the workflow loads: its folder under ComfyUI's `models`, and its name there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    file: _FileName


class FallbackRule(BaseModel):
    """What to try where the workflow fails with one of the codes `on` (docs/fallbacks.md says which are the usual).

    Either `models`, the same workflow with other model files (`{"big.safetensors": "small.safetensors"}`), or
    `template`, another one. That gets the parameters of the same name and kind; `params` renames (`{ours: theirs}`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    models: dict[_FileName, _FileName] | None = None
    template: Annotated[str, Field(min_length=1)] | None = None
    params: dict[str, str] = {}
    on: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] | None = None

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
    are what is tried, in this order, where the workflow fails.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]
    title: Annotated[str, Field(min_length=1)]
    description: Annotated[str, Field(min_length=1)]
    parameters: Annotated[tuple[Parameter, ...], Field(strict=False)]
    nodes: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    models: Annotated[tuple[ModelFile, ...], Field(strict=False)]
    output_nodes: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    images: Annotated[int, Field(ge=1)] = 1
    batch_parameter: str | None = None
    expected_seconds: Annotated[float, Field(gt=0)]
    fallbacks: Annotated[tuple[FallbackRule, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = Counter(parameter.name for parameter in self.parameters)
        if repeated := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"parameter {repeated[0]!r} is there twice")
        targets = Counter(target for parameter in self.parameters for target in parameter.targets)
        if shared := [target for target, count in targets.items() if count > 1]:
            raise ValueError(f"input {shared[0].input!r} of node {shared[0].node!r} is a target twice")
        if sum(isinstance(parameter, SeedParameter) for parameter in self.parameters) > 1:
            raise ValueError("there is more than one seed; give one seed several targets")
        if self.batch_parameter is not None and not isinstance(self.parameter(self.batch_parameter), IntParameter):
            raise ValueError(f"batch_parameter {self.batch_parameter!r} is not one of the int parameters")
        return self

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of this name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)
