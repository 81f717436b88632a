"""`generate_image`: one image job, from a template or from a ComfyUI workflow of one's own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import get_settings
from ryla_tasks.tasks.plan import FallbackPlan, JobPlan
from ryla_tasks.tasks.previous import bind_images, input_images
from ryla_tasks.tasks.previous_lora import BoundLora, bind_lora
from ryla_tasks.workflows import (
    InputImage,
    RenderedFallback,
    check_workflow,
    expected_images,
    find_seed,
    get_template,
    model_files,
    render_fallbacks,
)

__all__ = ["generate_image"]


def generate_image(
    previous: Any = None,
    *,
    workflow: Mapping[str, Any] | None = None,
    template: str | None = None,
    images: Sequence[Mapping[str, str]] = (),
    **params: Any,
) -> JobPlan:
    """Generate images with ComfyUI on the `image` endpoint.

    Give `template` with its parameters (`template="z-image-turbo", prompt="a cat"`), or `workflow`, a workflow in
    ComfyUI's API format. A template's images are parameters (`face={"url": "https://..."}`, `{"image": <base64>}`);
    those that it requires and that are not given are taken from the `previous` result in a chain. A workflow of one's
    own, or a template without such parameters, gets `images` for its LoadImage nodes, each `{"name": ...,
    "image": <base64 or data URI>}`; those of a `previous` result come before them, named `input_1.png` and so on.
    A template with a parameter `lora` takes the LoRA of a previous training, unless one is given; its samples are no
    input images. Besides, every job takes the options of `JobOptions`.

    Raises `InvalidJob` naming the field, `UnknownTemplate` among them.
    """
    if (workflow is None) == (template is None):
        raise InvalidJob("workflow: give either workflow, in ComfyUI's API format, or template", field="workflow")
    if template is None:
        return _from_workflow(workflow, [*input_images(previous), *images], params)
    find = partial(get_template, folder=get_settings().templates_dir)
    chosen = find(template)
    lora = bind_lora(chosen.manifest, params, previous)
    if lora is not None:
        params = {**params, "lora": lora.name}
    if any(parameter.type == "image" for parameter in chosen.manifest.parameters):
        params = bind_images(chosen.manifest, params, previous)
        given = list(images)
    else:
        given = [*input_images(previous), *images]
    # ComfyUI answers a prompt that it has seen before with the old file's name: each job gets a name of its own.
    internal = {"filename_prefix": f"ryla-{secrets.token_hex(8)}"}
    rendered = chosen.render_with(params, internal=internal)
    fallbacks = render_fallbacks(chosen, rendered, params, internal=internal, find=find)
    plan = JobPlan(
        _input(rendered.workflow, given, rendered.images, rendered.faces),
        expected_images=rendered.expected_images,
        seed=rendered.seed,
        expected_run_s=chosen.manifest.expected_seconds,
        label=chosen.name,
        needs=model_files(rendered.workflow),
        fallbacks=_plans(fallbacks, given),
    )
    return plan if lora is None else _with_lora(plan, lora)


def _with_lora(plan: JobPlan, lora: BoundLora) -> JobPlan:
    """The plan with the file of its LoRA, which no target has from the start. Fallbacks that load it get it too."""
    if lora.name not in plan.needs:
        return plan
    files = {"files": [lora.file]} if lora.file is not None else {}
    return replace(
        plan,
        input={**plan.input, **files},
        needs=tuple(name for name in plan.needs if name != lora.name),
        fallbacks=tuple(replace(one, plan=_with_lora(one.plan, lora)) for one in plan.fallbacks),
    )


def _plans(fallbacks: Sequence[RenderedFallback], images: list[Mapping[str, str]]) -> tuple[FallbackPlan, ...]:
    return tuple(
        FallbackPlan(
            JobPlan(
                _input(one.workflow, images, one.images, one.faces),
                expected_images=one.expected_images,
                seed=one.seed,
                expected_run_s=one.template.manifest.expected_seconds,
                label=one.template.name,
                needs=model_files(one.workflow),
                fallbacks=_plans(one.fallbacks, images),
            ),
            on=one.on,
            kind=one.kind,
            source=one.source,
            to=one.to,
        )
        for one in fallbacks
    )


def _from_workflow(workflow: Any, images: list[Mapping[str, str]], params: Mapping[str, Any]) -> JobPlan:
    if params:
        name = next(iter(params))
        raise InvalidJob(f"{name}: only a template takes parameters; a workflow is sent as it is", field=name)
    check_workflow(workflow)
    return JobPlan(
        _input(workflow, images),
        expected_images=expected_images(workflow),
        seed=find_seed(workflow),
        label="workflow",
        needs=model_files(workflow),
    )


def _input(
    workflow: Mapping[str, Any],
    images: Sequence[Mapping[str, str]],
    own: Sequence[InputImage] = (),
    faces: Sequence[str] = (),
) -> dict[str, Any]:
    """The GPU worker's input. `own` are the images of a template's parameters; in those named `faces` there must be
    a face."""
    job_input: dict[str, Any] = {"workflow": workflow}
    if sent := [*images, *filter(None, (image.to_json() for image in own))]:
        # The same image given twice has the same name twice, and is sent once.
        job_input["images"] = list({_name(image): image for image in sent}.values())
    if faces:
        job_input["needs_face"] = list(faces)
    return job_input


def _name(image: Mapping[str, str]) -> str:
    if not isinstance(image, Mapping) or not isinstance(name := image.get("name"), str) or not name:
        raise InvalidJob('images: each must be {"name": ..., "image": <base64 or data URI>}', field="images")
    return name
