"""No face found is an error, and not an unchanged image.

The face nodes of ComfyUI only warn, and pass on what they were given. So the images that must show a face are looked at
before the workflow is queued, by a function that the image of the worker provides, and the results are compared with
them afterwards.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from PIL import Image, ImageChops, UnidentifiedImageError

from workers.comfyui.inputs import invalid
from workers.common.failures import JobFailure

__all__ = ["CountFaces", "check_faces", "is_unchanged", "load_detector", "no_face"]

#: How many faces a picture shows. Called in a thread of its own.
CountFaces = Callable[[Path], int]


def no_face(images: Iterable[str], reason: str) -> JobFailure:
    """The failure for pictures without a face."""
    return JobFailure("no_face", "No face was found in the picture.", {"images": list(images), "reason": reason})


def load_detector(name: str) -> CountFaces | None:
    """The function that `RYLA_FACE_DETECTOR` names as `module:function`; None where it names none.

    Raises `ValueError` where there is no such function: a worker that cannot do its checks should not start.
    """
    if not name:
        return None
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"RYLA_FACE_DETECTOR: {name} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"RYLA_FACE_DETECTOR: {name} is not a function")
    detector: CountFaces = found
    return detector


async def check_faces(names: Iterable[str], paths: Mapping[str, Path], detector: CountFaces | None) -> list[str]:
    """Raise a failure where one of these images shows no face. Returns warnings.

    Without a detector nothing is found out here; that is a warning.
    """
    wanted = list(dict.fromkeys(names))
    absent = [name for name in wanted if name not in paths]
    if absent:
        raise invalid(f"needs_face names no input image: {', '.join(absent)}")
    if wanted and detector is None:
        return ["The input was not checked for faces: this worker has no face detector."]
    without = [name for name in wanted if await asyncio.to_thread(_count, detector, paths[name]) < 1]
    if without:
        raise no_face(without, "the face detector found none")
    return []


def _count(detector: CountFaces | None, path: Path) -> int:
    return detector(path) if detector is not None else 1


def is_unchanged(result: Path, sources: Iterable[Path]) -> bool:
    """Whether a result shows, pixel for pixel, one of the pictures that went in."""
    try:
        with Image.open(result) as opened:
            shown = opened.convert("RGB")
        for source in sources:
            with Image.open(source) as opened:
                if opened.size == shown.size and ImageChops.difference(opened.convert("RGB"), shown).getbbox() is None:
                    return True
    except (UnidentifiedImageError, OSError):
        return False
    return False
