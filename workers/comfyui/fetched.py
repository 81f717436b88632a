"""What a job brings along: its images, on this machine and checked, and its model files, in their folders."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from workers.comfyui.inputs import InputImage, ModelFile, invalid
from workers.common.failures import JobFailure
from workers.common.fetching import fetch

__all__ = ["bring_images", "bring_models"]

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


async def bring_images(images: Iterable[InputImage], folder: Path, *, most_bytes: int) -> dict[str, Path]:
    """Put a job's images into a folder, all at once. Returns where each is, by the job's name for it."""
    images = list(images)
    names = [image.name for image in images]
    if len(set(names)) != len(names):
        raise invalid("two images have the same name")
    paths = await asyncio.gather(*(_bring(image, folder, number, most_bytes) for number, image in enumerate(images)))
    return dict(zip(names, paths, strict=True))


async def _bring(image: InputImage, folder: Path, number: int, most_bytes: int) -> Path:
    path = folder / f"{number:02d}_{image.safe_name}"
    if image.data is not None:
        path.write_bytes(image.data)
    else:
        await fetch(image.url, path, most_bytes=most_bytes, types=["image/*"])
    await asyncio.to_thread(_check, image.name, path)
    return path


def _check(name: str, path: Path) -> None:
    """It must be an image by its content, whatever its server or its name says; and none that unfolds to gigabytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as opened:
                opened.verify()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombWarning) as error:
        raise JobFailure(
            "input_image_invalid", "An input image cannot be read.", {"image": name, "reason": type(error).__name__}
        ) from error
    except Image.DecompressionBombError as error:
        raise JobFailure(
            "input_image_invalid", "An input image cannot be read.", {"image": name, "reason": "too many pixels"}
        ) from error


async def bring_models(files: Iterable[ModelFile], models: Path | None, *, most_bytes: int) -> list[str]:
    """Fetch the model files that are not there yet; they stay for later jobs. Returns the names of those fetched.

    A file appears under its name when it is complete, so two workers on one volume may fetch it at the same time.
    """
    fetched = []
    for file in files:
        if models is None:
            raise JobFailure(
                "no_model_folder",
                "The GPU worker has no place for model files.",
                {"reason": "neither COMFYUI_DIR nor a network volume"},
            )
        path = models / file.folder / file.name
        if path.exists():
            continue
        await fetch(file.url, path, most_bytes=most_bytes, sha256=file.sha256)
        fetched.append(file.name)
    return fetched
