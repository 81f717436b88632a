"""`ryla workflows`: the templates that there are, what can be set in them, what comes out, and new ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ryla_tasks.cli.exits import Exit, Failure
from ryla_tasks.cli.output import console, json_option, print_json
from ryla_tasks.cli.params import asked_for, param_options, read_json
from ryla_tasks.cli.preflight import check
from ryla_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from ryla_tasks.workflows import Manifest, Template
    from ryla_tasks.workflows.parameters import Parameter

__all__ = ["workflows"]


@click.group()
def workflows() -> None:
    """List, show, check, render and import workflow templates.

    Templates come with the package; those in the folder RYLA_TEMPLATES_DIR go before them. Every command takes --json.
    """


workflows.add_command(check)


@workflows.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the templates, by name."""
    from ryla_tasks.settings import get_settings
    from ryla_tasks.workflows import list_templates

    manifests = list_templates(get_settings().templates_dir)
    if as_json:
        print_json([_summary(manifest) for manifest in manifests])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("Name", "What", "Requires", "Usual time"):
        table.add_column(name, overflow="fold")
    for manifest in manifests:
        row = _summary(manifest)
        table.add_row(row["name"], row["title"], ", ".join(row["required"]) or "-", f"{row['expected_seconds']:g} s")
    console().print(table)


@workflows.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what can be set in the template NAME, and what it needs of the endpoint."""
    manifest = _template(name).manifest
    if as_json:
        print_json(manifest.model_dump(mode="json", exclude_none=True))
    else:
        _print_manifest(manifest)


@workflows.command()
@click.argument("name")
@param_options
@json_option
def render(name: str, prompt: str | None, params: tuple[str, ...], images: tuple[str, ...], as_json: bool) -> None:
    """Render the template NAME, and print the workflow as ComfyUI takes it. Nothing is sent.

    With --json, print what was used as well: {"workflow", "params", "seed", "expected_images", "images", "models"}.

    \b
    ryla workflows render sdxl -p "a lighthouse at dusk" --param steps=20 > workflow.json
    """
    from ryla_tasks.tasks.previous import bind_images
    from ryla_tasks.workflows import model_files

    template = _template(name)
    rendered = template.render_with(bind_images(template.manifest, asked_for(prompt, params, images), None))
    if not as_json:
        print_json(rendered.workflow)
        return
    print_json(
        {
            "workflow": rendered.workflow,
            "params": {key: _shown(value) for key, value in rendered.params.items()},
            "seed": rendered.seed,
            "expected_images": rendered.expected_images,
            "images": [image.name for image in rendered.images],
            "models": list(model_files(rendered.workflow)),
        }
    )


@workflows.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="The new template's name, which is that of its folder.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that gets it.  [default: RYLA_TEMPLATES_DIR]",
)
@json_option
def import_(file: Path, name: str, folder: Path | None, as_json: bool) -> None:
    """Make a template of FILE, a workflow that the ComfyUI editor exported in API format.

    Its parameters are guessed: the prompts, seed, steps, cfg, size, batch, images, LoRAs and model files. Read the
    manifest, and change what is wrong.
    """
    from ryla_tasks.settings import get_settings
    from ryla_tasks.workflows import load_template
    from ryla_tasks.workflows.importing import guessed_manifest

    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,59}", name):
        raise click.BadParameter(
            f"{name!r} is not of small letters, digits, dots, _ and - (at most 60)", param_hint="--name"
        )
    parent = folder or get_settings().templates_dir
    if parent is None:
        raise ConfigurationError(
            "There is no folder for templates of your own: set RYLA_TEMPLATES_DIR, or give --folder",
            "RYLA_TEMPLATES_DIR",
        )
    workflow = read_json(file, "workflow")
    manifest = guessed_manifest(name, workflow)
    place = Path(parent).expanduser() / name
    if place.exists():
        raise Failure(f"{place} is there already; choose another name", Exit.USAGE)
    place.mkdir(parents=True)
    _write(place / "workflow.json", workflow)
    _write(place / "manifest.json", manifest)
    made = load_template(place).manifest
    if as_json:
        print_json({"folder": str(place), "manifest": made.model_dump(mode="json", exclude_none=True)})
    else:
        console().print(f"Made {place}. Its parameters are guessed: read manifest.json, then try")
        console().print(f"  ryla workflows check {name}\n")
        _print_manifest(made)


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _template(name: str) -> Template:
    from ryla_tasks.settings import get_settings
    from ryla_tasks.workflows import get_template

    return get_template(name, get_settings().templates_dir)


def _summary(manifest: Manifest) -> dict[str, Any]:
    offered = [parameter for parameter in manifest.parameters if not parameter.internal]
    return {
        "name": manifest.name,
        "title": manifest.title,
        "description": manifest.description,
        "required": [parameter.name for parameter in offered if parameter.required],
        "parameters": [parameter.name for parameter in offered],
        "expected_seconds": manifest.expected_seconds,
    }


def _print_manifest(manifest: Manifest) -> None:
    from rich.table import Table

    out = console()
    out.print(f"{manifest.title} ({manifest.name})\n{manifest.description}\n")
    table = Table(box=None, pad_edge=False)
    for column in ("Parameter", "Default", "Takes", "What"):
        table.add_column(column, overflow="fold")
    for parameter in manifest.parameters:
        if not parameter.internal:
            table.add_row(parameter.name, _default(parameter), parameter.allowed, parameter.description)
    out.print(table)
    out.print(f"\nNodes: {', '.join(manifest.nodes)}")
    out.print("Models: " + (", ".join(f"{model.folder}/{model.file}" for model in manifest.models) or "-"))
    out.print(f"Usual time: {manifest.expected_seconds:g} s")
    for rule in manifest.fallbacks:
        to = rule.template or ", ".join((rule.models or {}).values())
        out.print(f"Falls back to: {to}" + (f" (on {', '.join(rule.on)})" if rule.on else ""))


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    if parameter.type == "seed":
        return "random"
    return "none" if parameter.default_value == "" else json.dumps(parameter.default_value, ensure_ascii=False)


def _shown(value: Any) -> Any:
    """Of an image in full no more than its size."""
    if isinstance(value, dict) and isinstance(value.get("image"), str):
        return {"image": f"<{len(value['image'])} characters>"}
    return value
