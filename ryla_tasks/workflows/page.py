"""The page of the built-in templates (docs/templates.md), made from their manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ryla_tasks.workflows.library import list_templates
from ryla_tasks.workflows.manifest import Manifest
from ryla_tasks.workflows.parameters import Parameter

__all__ = ["page"]

_INTRODUCTION = """\
# The built-in templates

Made from the manifests in `ryla_tasks/workflows/builtin` by `python -m ryla_tasks.workflows > docs/templates.md`; do
not edit. How they are used, and how to write your own: [Workflows](workflows.md).

The times are those of one run on a warm worker with a GPU of the size of an RTX 4090; they are estimates, and jobs use
measured ones as soon as there are some. A model in brackets is found by a node itself, under a folder of ComfyUI's
`models`; the others are named by the workflow.
"""


def page() -> str:
    """The whole page, in Markdown."""
    manifests = list_templates()
    return (
        "\n".join([_INTRODUCTION, *_overview(manifests), *(line for one in manifests for line in _section(one))]) + "\n"
    )


def _overview(manifests: list[Manifest]) -> Iterator[str]:
    yield "| template | what | required | usual time |"
    yield "|---|---|---|---|"
    for manifest in manifests:
        required = ", ".join(f"`{one.name}`" for one in manifest.parameters if one.required and not one.internal)
        name, seconds = f"[`{manifest.name}`](#{manifest.name})", f"{manifest.expected_seconds:g} s"
        yield f"| {name} | {manifest.title} | {required} | {seconds} |"


def _section(manifest: Manifest) -> Iterator[str]:
    yield f"\n## {manifest.name}\n"
    yield f"{manifest.description}\n"
    yield "| parameter | default | takes | what |"
    yield "|---|---|---|---|"
    for parameter in manifest.parameters:
        if not parameter.internal:
            cells = (f"`{parameter.name}`", _default(parameter), _takes(parameter), parameter.description)
            yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
    yield f"\nModels: {_models(manifest)}.\n"
    yield f"Nodes: {', '.join(f'`{name}`' for name in manifest.nodes)}."
    for rule in manifest.fallbacks:
        to = f"`{rule.template}`" if rule.template else ", ".join(f"`{file}`" for file in (rule.models or {}).values())
        codes = f" after {', '.join(f'`{code}`' for code in rule.on)}" if rule.on else ""
        unless = f", unless {', '.join(f'`{name}`' for name in rule.unless)} is given" if rule.unless else ""
        yield f"\nFalls back to {to}{codes}{unless}."


def _models(manifest: Manifest) -> str:
    names = [f"`{model.folder}/{model.file}`" for model in manifest.models if not model.implied]
    names += [f"(`{model.folder}/{model.file}`)" for model in manifest.models if model.implied]
    return ", ".join(names) or "none"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    if parameter.type == "seed":
        return "random"
    return "none" if parameter.default_value == "" else f"`{json.dumps(parameter.default_value, ensure_ascii=False)}`"


def _takes(parameter: Parameter) -> str:
    return (
        "an image" if parameter.type == "image" else parameter.allowed.removesuffix("; leave it out for a random one")
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
