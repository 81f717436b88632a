"""A folder of templates of one's own: "elaborate" falls back to a smaller model, then to "simple"."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ryla_tasks.workflows import library

__all__ = ["BIG", "SMALL", "write_templates"]

BIG, SMALL = "z_image_turbo_bf16.safetensors", "z_image_turbo_small.safetensors"


def write_templates(folder: Path) -> Path:
    """Writes both; "simple" has another model, loaded by a CheckpointLoaderSimple, and 4 steps at most."""
    _write(folder, "elaborate", fallbacks=[{"models": {BIG: SMALL}}, {"template": "simple"}])
    _write(folder, "simple", model="other.safetensors", node="CheckpointLoaderSimple", most=4)
    return folder


def _write(folder: Path, name: str, *, model: str = BIG, node: str = "UNETLoader", most: int = 50, **more: Any) -> None:
    """A copy of a built-in template."""
    shutil.copytree(library._BUILTIN / "z-image-turbo", folder / name)
    for file in ("manifest.json", "workflow.json"):
        text = (folder / name / file).read_text().replace(BIG, model).replace('"UNETLoader"', f'"{node}"')
        (folder / name / file).write_text(text)
    manifest = {**json.loads((folder / name / "manifest.json").read_text()), "name": name, **more}
    (steps,) = (parameter for parameter in manifest["parameters"] if parameter["name"] == "steps")
    steps |= {"max": most, "default": min(steps["default"], most)}
    (folder / name / "manifest.json").write_text(json.dumps(manifest))
