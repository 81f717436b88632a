"""The network volume's model folders, made visible to ComfyUI: all of them, at start-up.

Most folders go into `extra_model_paths.yaml`. Some node packs look below ComfyUI's own `models` folder and nowhere
else (InsightFace, PuLID, ReActor): theirs are linked. What was found is written to the log.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FOLDERS", "LINKED", "Report", "connect", "extra_model_paths"]

log = logging.getLogger(__name__)

#: ComfyUI's names of folders, and the folders of a volume that count as each; older names included.
FOLDERS: dict[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints",),
    "configs": ("configs",),
    "loras": ("loras",),
    "vae": ("vae",),
    "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("diffusion_models", "unet"),
    "clip_vision": ("clip_vision",),
    "style_models": ("style_models",),
    "embeddings": ("embeddings",),
    "diffusers": ("diffusers",),
    "vae_approx": ("vae_approx",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "gligen": ("gligen",),
    "upscale_models": ("upscale_models",),
    "latent_upscale_models": ("latent_upscale_models",),
    "hypernetworks": ("hypernetworks",),
    "photomaker": ("photomaker",),
    "classifiers": ("classifiers",),
    "model_patches": ("model_patches",),
    "audio_encoders": ("audio_encoders",),
    "ipadapter": ("ipadapter",),
    "instantid": ("instantid",),
    "onnx": ("onnx",),
}
#: Folders that node packs seek below ComfyUI's own models folder.
LINKED = (
    "insightface",
    "pulid",
    "reactor",
    "facerestore_models",
    "facedetection",
    "facexlib",
    "nsfw_detector",
    "ultralytics",
    "sams",
    "antelopev2",
    "ipadapter",
    "instantid",
)


@dataclass(slots=True)
class Report:
    """What was found: files and bytes for each folder, folders that nothing reads, and what went wrong."""

    volume: str
    there: bool
    folders: dict[str, dict[str, int]] = field(default_factory=dict)
    linked: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "volume": self.volume,
            "there": self.there,
            "folders": self.folders,
            "linked": self.linked,
            "extra": self.extra,
            "problems": self.problems,
        }


def extra_model_paths(models: Path, extra: tuple[str, ...] = ()) -> str:
    """The text of an `extra_model_paths.yaml` for a folder of models. `extra`: further folders, under their own names.

    Folders that do not exist are named too: a LoRA that is trained tomorrow is found without a restart.
    """
    lines = ["ryla_volume:", f"  base_path: {json.dumps(str(models))}"]
    for name, folders in (*FOLDERS.items(), *((one, (one,)) for one in extra)):
        lines.append(f"  {name}: |")
        lines.extend(f"    {folder}/" for folder in folders)
    return "\n".join(lines) + "\n"


def connect(volume: Path, comfy: Path) -> Report:
    """Make a volume's models visible to the ComfyUI in this folder, and say what was found. Before ComfyUI starts."""
    models = volume / "models"
    report = Report(str(volume), volume.is_dir())
    if not report.there:
        report.problems.append(f"{volume} is not there: is a network volume attached to the endpoint?")
        return _told(report)
    if not models.is_dir():
        report.problems.append(f"{models} is not there: model files belong below it")
    known = {folder for folders in FOLDERS.values() for folder in folders} | set(LINKED)
    present = sorted(path.name for path in models.iterdir() if path.is_dir()) if models.is_dir() else []
    report.extra = [name for name in present if name not in known and name.isidentifier()]
    _write(comfy / "extra_model_paths.yaml", extra_model_paths(models, tuple(report.extra)))
    for name in present:
        report.folders[name] = _counted(models / name)
        if name in LINKED:
            _link(models / name, comfy / "models" / name, report)
    return _told(report)


def _write(path: Path, ours: str) -> None:
    """Write our part of the file; what an image has in it before that stays."""
    before = path.read_text(encoding="utf-8").partition("ryla_volume:")[0] if path.exists() else ""
    path.write_text(f"{before.rstrip()}\n{ours}" if before.strip() else ours, encoding="utf-8")


def _counted(folder: Path) -> dict[str, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _link(source: Path, target: Path, report: Report) -> None:
    """Link a folder; where the image has files of its own there, link what it has not."""
    if target.is_symlink() or not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source, target_is_directory=True)
        report.linked.append(target.name)
        return
    if not target.is_dir():
        report.problems.append(f"{target} is a file, so {source} cannot be linked there")
        return
    for entry in source.iterdir():
        here = target / entry.name
        if entry.is_dir() and here.is_dir() and not here.is_symlink():
            _link(entry, here, report)
        elif not here.exists():
            here.unlink(missing_ok=True)
            here.symlink_to(entry, target_is_directory=entry.is_dir())
    report.linked.append(target.name)


def _told(report: Report) -> Report:
    log.info("models: %s", json.dumps(report.to_json()))
    for problem in report.problems:
        log.warning("models: %s", problem)
    return report
