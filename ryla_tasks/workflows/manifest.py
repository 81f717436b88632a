"""A template's manifest: what it is for, what can be set, and what the endpoint must have."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ryla_tasks.workflows.parameters import IntParameter, Parameter, SeedParameter

__all__ = ["Manifest", "ModelFile"]


class ModelFile(BaseModel):
    """A model file that the workflow loads: its folder under ComfyUI's `models`, and its name there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    file: Annotated[str, Field(min_length=1)]


class Manifest(BaseModel):
    """What `manifest.json` holds.

    `nodes` are the class types that the endpoint's ComfyUI must know, `models` the files that it must find.
    `output_nodes` are the ids of the nodes that save images; together they make `images` of them, times the value of
    `batch_parameter` where there is one. `expected_seconds` is the usual time of one run on a warm worker.
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
