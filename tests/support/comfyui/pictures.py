"""What the stand-in's nodes give: pictures where a node makes or passes on an image, files where it is an output."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

__all__ = ["picture_of", "save_output"]

_SWAPS = frozenset({"ReActorFaceSwap", "ReActorFaceSwapOpt"})
_COUNTED = re.compile(r"_(\d{5})_\.")


def picture_of(node: Mapping[str, Any], sources: Mapping[str, Any], inputs: Path, *, faces: bool) -> Any:
    """The picture that comes out of a node. `sources` are the pictures that come in, by input."""
    values, class_type = node["inputs"], node["class_type"]
    first = next((one for one in sources.values() if isinstance(one, Image.Image)), None)
    if class_type == "EmptyImage":
        color = int(values.get("color", 0))
        return Image.new("RGB", (values["width"], values["height"]), (color >> 16 & 255, color >> 8 & 255, color & 255))
    if class_type == "LoadImage":
        with Image.open(inputs / values["image"]) as loaded:
            return loaded.convert("RGB")
    if class_type == "ImageScale" and first is not None:
        return first.resize((values["width"] or first.width, values["height"] or first.height))
    if class_type in _SWAPS:
        target = sources.get("input_image", first)
        return _swapped(target) if faces and isinstance(target, Image.Image) else target
    if class_type == "VAEDecode":
        # Painted: whatever it was painted after, it is none of the pictures that went in.
        return (first or Image.new("RGB", (64, 64), _color(node))).point(lambda value: 255 - value)
    latent = sources.get("latent_image")
    if isinstance(latent, Image.Image):
        return latent
    if first is not None:
        return first
    if {"width", "height"} <= values.keys() or "latent" in class_type.lower():
        made = Image.new("RGB", (min(values.get("width", 64), 64), min(values.get("height", 64), 64)), _color(node))
        made.info["batch"] = values.get("batch_size", 1)
        return made
    return None


def _swapped(target: Image.Image) -> Image.Image:
    swapped = target.copy()
    ImageDraw.Draw(swapped).ellipse((0, 0, target.width // 2, target.height // 2), fill=(250, 210, 180))
    return swapped


def _color(node: Mapping[str, Any]) -> tuple[int, int, int]:
    digest = hashlib.sha256(json.dumps(node, sort_keys=True, default=str).encode()).digest()
    return digest[0], digest[1], digest[2]


def save_output(node_id: str, node: Mapping[str, Any], sources: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Run an output node: write its files, and give what it shows."""
    picture = next((one for one in sources.values() if isinstance(one, Image.Image)), Image.new("RGB", (8, 8)))
    match node["class_type"]:
        case "PreviewAny":
            return {"text": [f"from {node_id}"]}
        case "PreviewImage":
            path = _next(base / "temp", f"ComfyUI_temp_{node_id}", ".png")
            picture.save(path)
            return {"images": [{"filename": path.name, "subfolder": "", "type": "temp"}]}
        case class_type:
            prefix = str(node["inputs"].get("filename_prefix", "ComfyUI"))
            kind = "mp4" if "Video" in class_type else "flac" if "Audio" in class_type else "png"
            path = _next(base / "output", prefix, f".{kind}")
            folder = str(path.parent.relative_to(base / "output"))
            if kind == "png":
                return {"images": [_saved(picture, base, prefix, folder) for _ in range(picture.info.get("batch", 1))]}
            path.write_bytes(_SAMPLES[kind])
            shown = {"filename": path.name, "subfolder": "" if folder == "." else folder, "type": "output"}
            if kind == "flac":
                return {"audio": [shown]}
            return {"images": [shown], "animated": [True]}


def _saved(picture: Image.Image, base: Path, prefix: str, folder: str) -> dict[str, Any]:
    path = _next(base / "output", prefix, ".png")
    picture.save(path)
    return {"filename": path.name, "subfolder": "" if folder == "." else folder, "type": "output"}


_SAMPLES = {"mp4": b"\x00\x00\x00\x18ftypmp42" + bytes(200), "flac": b"fLaC" + bytes(200)}


def _next(folder: Path, prefix: str, ending: str) -> Path:
    """The next free name: `prefix_00001_.png`, as ComfyUI counts."""
    wanted = (folder / prefix).resolve()
    if not wanted.is_relative_to(folder.resolve()):
        raise ValueError("saving outside the output folder is not allowed")
    wanted.parent.mkdir(parents=True, exist_ok=True)
    taken = [
        int(found[1])
        for path in wanted.parent.glob(f"{wanted.name}_*")
        if (found := _COUNTED.search(path.name)) is not None
    ]
    return wanted.parent / f"{wanted.name}_{max(taken, default=0) + 1:05d}_{ending}"
