"""A workflow template: a ComfyUI workflow in API format, with a manifest that says what may be set in it.

Values go into the parsed tree, never into JSON text, so no prompt can break the workflow or become part of it.
"""

from __future__ import annotations

import copy
import difflib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ryla_tasks.errors import ConfigurationError, InvalidJob
from ryla_tasks.workflows import optional
from ryla_tasks.workflows.fitting import misfit, model_places
from ryla_tasks.workflows.images import InputImage, input_image
from ryla_tasks.workflows.manifest import Manifest
from ryla_tasks.workflows.parameters import (
    MAX_DRAWN_SEED,
    ImageParameter,
    Parameter,
    SeedParameter,
    Target,
)
from ryla_tasks.workflows.workflow import check_workflow

__all__ = ["RenderedWorkflow", "Template", "draw_seed", "load_template"]


#: How many combinations of optional parts a template keeps ready.
_MOST_VARIANTS = 64


def draw_seed(largest: int) -> int:
    """A random seed from 0 to `largest`."""
    return random.SystemRandom().randint(0, largest)


@dataclass(frozen=True, slots=True)
class RenderedWorkflow:
    """A workflow ready to send, and what went into it.

    `params` holds every parameter with the value used, defaults and a drawn seed included, but not the internal
    ones; rendering again with them gives the same workflow. `seed` is None for a template without one. `images` are
    to be sent along, `faces` the names of those in which there must be a face.
    """

    workflow: dict[str, Any] = field(repr=False)
    params: dict[str, Any] = field(repr=False)
    expected_images: int
    seed: int | None
    images: tuple[InputImage, ...] = ()
    faces: tuple[str, ...] = ()


class Template:
    """A manifest and its workflow, checked against each other. Immutable; `render` works on a copy.

    Raises `ConfigurationError` if the two do not fit: a template that loads renders.
    """

    def __init__(self, manifest: Manifest, workflow: Mapping[str, Any]) -> None:
        self.manifest = manifest
        own = copy.deepcopy(dict(workflow))
        try:
            check_workflow(own)
        except InvalidJob as error:
            raise ConfigurationError(f"template {manifest.name!r}: {error}") from error
        if problem := misfit(manifest, own):
            raise ConfigurationError(f"template {manifest.name!r}: {problem}")
        self._text = json.dumps(own)
        self._variants: dict[tuple[int, ...], str] = {(): self._text}
        self._model_places = model_places(manifest, own)

    def __repr__(self) -> str:
        return f"Template({self.name!r})"

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def workflow(self) -> dict[str, Any]:
        """A copy of the workflow as it was loaded."""
        copied: dict[str, Any] = json.loads(self._text)  # several times as fast as a deep copy
        return copied

    def render(self, /, **params: Any) -> RenderedWorkflow:
        """Put the parameters in; what is left out, or None, gets its default, a seed a random number.

        Raises `InvalidJob`, whose `field` is the parameter, for one that is unknown, missing or not admitted.
        """
        return self.render_with(params)

    def render_with(
        self,
        params: Mapping[str, Any],
        *,
        internal: Mapping[str, Any] | None = None,
        draw: Callable[[int], int] = draw_seed,
    ) -> RenderedWorkflow:
        """As `render`, for the library: sets `internal` parameters too (names that the template lacks are ignored),
        and takes the source of random seeds, which is called with the largest admitted."""
        self._refuse_unknown(params)
        values = {
            parameter.name: _resolve(parameter, (internal or {}) if parameter.internal else params, draw)
            for parameter in self.manifest.parameters
        }
        workflow = self._without_empty_parts(values)
        images = _images(self.manifest, values, workflow)
        for target, value in _put_in(self.manifest, values, images):
            if target.node in workflow:
                workflow[target.node]["inputs"][target.input] = value
        batch = values[self.manifest.batch_parameter] if self.manifest.batch_parameter else 1
        seeds = [values[parameter.name] for parameter in self.manifest.parameters if parameter.type == "seed"]
        return RenderedWorkflow(
            workflow=workflow,
            params={name: values[name] for name in self._offered()},
            expected_images=self.manifest.images * batch,
            seed=seeds[0] if seeds else None,
            images=tuple(images.values()),
            faces=tuple(dict.fromkeys(image.name for name, image in images.items() if self._needs_face(name))),
        )

    def _without_empty_parts(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the workflow without the parts that these values leave out."""
        parts = self.manifest.optional
        off = tuple(number for number, part in enumerate(parts) if optional.is_empty(values[part.parameter]))
        text = self._variants.get(off)
        if text is None:
            text = json.dumps(optional.without(self.workflow, [parts[number] for number in off]))
            if len(self._variants) < _MOST_VARIANTS:
                self._variants[off] = text
        copied: dict[str, Any] = json.loads(text)
        return copied

    def _needs_face(self, name: str) -> bool:
        parameter = self.manifest.parameter(name)
        return isinstance(parameter, ImageParameter) and parameter.needs_face

    def with_models(
        self, rendered: Mapping[str, Any], models: Mapping[str, str]
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Exchange model files in a rendered workflow: those that were there with what took their place, and the new
        workflow.

        Only inputs that name a model file in the template itself are looked at: a prompt is never taken for one.
        """
        exchanged: dict[str, str] = {}
        workflow = dict(rendered)
        for node_id, name in self._model_places:
            node = workflow.get(node_id)
            if node is None:
                continue
            file = node["inputs"][name]
            if isinstance(file, str) and file in models:
                exchanged[file] = models[file]
                workflow[node_id] = {**node, "inputs": {**node["inputs"], name: models[file]}}
        return exchanged, workflow

    def _offered(self) -> list[str]:
        return [parameter.name for parameter in self.manifest.parameters if not parameter.internal]

    def _refuse_unknown(self, params: Mapping[str, Any]) -> None:
        known = self._offered()
        for name in params:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise InvalidJob(
                    f"template {self.name!r} has no parameter {name!r}{hint}; it has: {', '.join(known)}", field=name
                )


def load_template(folder: Path) -> Template:
    """Read `manifest.json` and `workflow.json` from a folder named like the template.

    Raises `ConfigurationError` that says which file is wrong and how.
    """
    source = folder / "manifest.json"
    try:
        manifest = Manifest.model_validate(_read_json(source))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{source}: {place + ': ' if place else ''}{first['msg']}") from None
    if manifest.name != folder.name:
        raise ConfigurationError(f"{source}: the name {manifest.name!r} is not that of its folder, {folder.name!r}")
    workflow = _read_json(folder / "workflow.json")
    if not isinstance(workflow, dict):
        raise ConfigurationError(f"{folder / 'workflow.json'}: a workflow is a JSON object")
    return Template(manifest, workflow)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: not JSON ({error})") from error


def _resolve(parameter: Parameter, given: Mapping[str, Any], draw: Callable[[int], int]) -> Any:
    value = given.get(parameter.name)
    if value is not None:
        return parameter.accept(value)
    if parameter.required:
        raise InvalidJob(f"{parameter.name} is required: {parameter.description}", field=parameter.name)
    if isinstance(parameter, SeedParameter):
        return parameter.accept(draw(min(parameter.max, MAX_DRAWN_SEED)))
    return parameter.default_value


def _images(manifest: Manifest, values: Mapping[str, Any], workflow: Mapping[str, Any]) -> dict[str, InputImage]:
    """The images that are given, and used by a node of the workflow, by the names of their parameters."""
    return {
        parameter.name: input_image(values[parameter.name], parameter.name)
        for parameter in manifest.parameters
        if isinstance(parameter, ImageParameter)
        and values[parameter.name] != ""
        and any(target.node in workflow for target in parameter.targets)
    }


def _put_in(
    manifest: Manifest, values: Mapping[str, Any], images: Mapping[str, InputImage]
) -> Iterator[tuple[Target, Any]]:
    """What goes into which input."""
    put = {parameter.name: parameter.put(values[parameter.name]) for parameter in manifest.parameters}
    for name, image in images.items():
        put[name] = image.name
    for parameter in manifest.parameters:
        for target in parameter.targets:
            yield target, put[parameter.name]
    for joined in manifest.joined:
        yield joined.target, joined.separator.join(filter(None, (str(put[name]) for name in joined.parameters)))
