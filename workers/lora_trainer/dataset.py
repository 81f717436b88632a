"""The folder of images and captions that AI Toolkit trains on.

A flat folder: `image_000.png` beside `image_000.txt`. Every image has been decoded once before the trainer sees it, and
every caption holds the trigger word: AI Toolkit would put it there itself, but not where it caches text embeddings
before it knows the word.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from workers.common.fetching import FetchFailed, FetchRefused, fetch
from workers.lora_trainer.archive import IMAGE_SUFFIXES, Limits, unpack
from workers.lora_trainer.errors import DatasetInvalid
from workers.lora_trainer.request import TrainingRequest
from workers.lora_trainer.settings import Settings

__all__ = ["Dataset", "captioned", "check_image", "prepare"]

#: Called with how many images are there, of how many.
Told = Callable[[int, int], None]

_IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp")
_ZIP_TYPES = ("application/zip", "application/x-zip-compressed", "application/x-zip", "multipart/x-zip")
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_AT_ONCE = 4
_FEWEST = 3
_SHORTEST_SIDE = 64
_MOST_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """A folder that is ready to be trained on, and what its owner should know of it."""

    folder: Path
    images: int
    warnings: tuple[str, ...] = ()


async def prepare(request: TrainingRequest, folder: Path, settings: Settings, told: Told) -> Dataset:
    """Fetch, check and write the images and captions of a request. Raises `DatasetInvalid`, or `FetchFailed`."""
    folder.mkdir(parents=True, exist_ok=True)
    if request.dataset_url is not None:
        found = await _from_zip(request.dataset_url, folder, settings, told)
    else:
        found = await _from_urls(request, folder, settings, told)
    return await asyncio.to_thread(_finish, found, request, folder)


#: An image as it was fetched, the field of the request that it comes from, and its caption.
_Found = list[tuple[Path, str, str]]


async def _from_urls(request: TrainingRequest, folder: Path, settings: Settings, told: Told) -> _Found:
    sources = request.images or []
    if len(sources) > settings.most_images:
        raise DatasetInvalid("images", f"at most {settings.most_images} images are taken")
    places = asyncio.Semaphore(_AT_ONCE)
    done = total_bytes = 0

    async def one(number: int) -> Path:
        nonlocal done, total_bytes
        async with places:
            path = folder / "fetched" / f"{number:03}"
            got = await _fetch(
                sources[number].url, path, settings.most_image_bytes, _IMAGE_TYPES, f"images.{number}.url"
            )
            done, total_bytes = done + 1, total_bytes + got
            if total_bytes > settings.most_dataset_bytes:
                raise DatasetInvalid("images", f"the images are more than {settings.most_dataset_bytes} bytes")
            told(done, len(sources))
            return path

    # In a group the others stop when one fails; its error is the one to tell.
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(len(sources))]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [
        (task.result(), f"images.{number}.url", source.caption)
        for number, (task, source) in enumerate(zip(tasks, sources, strict=True))
    ]


async def _from_zip(url: str, folder: Path, settings: Settings, told: Told) -> _Found:
    archive = folder / "fetched.zip"
    await _fetch(url, archive, settings.most_dataset_bytes, _ZIP_TYPES, "dataset_url")
    limits = Limits(2 * settings.most_images + 50, settings.most_image_bytes, settings.most_dataset_bytes)
    files = await asyncio.to_thread(unpack, archive, folder / "fetched", limits)
    archive.unlink()
    captions = {file.stem: file for file in files if file.suffix == ".txt"}
    images = sorted(file for file in files if file.suffix in IMAGE_SUFFIXES)
    if len(images) > settings.most_images:
        raise DatasetInvalid("dataset_url", f"at most {settings.most_images} images are taken")
    told(len(images), len(images))
    return [(image, f"dataset_url: {image.name}", _read_caption(captions.get(image.stem))) for image in images]


async def _fetch(url: str, to: Path, most_bytes: int, types: tuple[str, ...], field: str) -> int:
    try:
        return (await fetch(url, to, most_bytes=most_bytes, types=types)).bytes
    except FetchRefused as refused:
        raise DatasetInvalid(field, refused.why, cause=refused.code) from None
    except FetchFailed as failed:
        if failed.final:
            raise DatasetInvalid(field, f"it is not there ({failed.why})", cause=failed.code) from None
        failed.details["field"] = field
        raise


def _read_caption(file: Path | None) -> str:
    return " ".join(file.read_text("utf-8", errors="replace").split()) if file is not None else ""


def _finish(found: _Found, request: TrainingRequest, folder: Path) -> Dataset:
    field = "images" if request.images is not None else "dataset_url"
    if len(found) < _FEWEST:
        raise DatasetInvalid(field, f"at least {_FEWEST} images are needed, there are {len(found)}")
    remarks = []
    final = folder / "images"
    final.mkdir()
    for number, (path, named, caption) in enumerate(found):
        suffix, size = check_image(path, named)
        if min(size) < request.resolutions[0]:
            remarks.append(f"{named} is {size[0]}x{size[1]}, smaller than the resolution of {request.resolutions[0]}")
        stem = f"image_{number:03}"
        path.replace(final / f"{stem}{suffix}")
        (final / f"{stem}.txt").write_text(captioned(caption, request.trigger_word) + "\n", "utf-8")
    return Dataset(final, len(found), tuple(remarks[:10]))


def check_image(path: Path, field: str) -> tuple[str, tuple[int, int]]:
    """Decode an image as a whole; the file name ending that fits what it really is, and its size.

    Raises `DatasetInvalid` for what is no JPEG, PNG or WebP, is cut off, is tiny or is a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as image:
                size = image.size
                if size[0] * size[1] > _MOST_PIXELS:
                    raise DatasetInvalid(field, f"the image has {size[0]}x{size[1]} pixels, which is too many")
                if min(size) < _SHORTEST_SIDE:
                    raise DatasetInvalid(field, f"the image is only {size[0]}x{size[1]} pixels")
                image.load()
                return _SUFFIXES.get(image.format or "", ".png"), size
    except DatasetInvalid:
        raise
    except Image.DecompressionBombError:
        raise DatasetInvalid(field, "the image has too many pixels") from None
    except Exception as error:
        # Decoders raise what they like (OSError, SyntaxError, struct.error, ValueError); all mean the same here.
        raise DatasetInvalid(field, f"this is not a readable JPEG, PNG or WebP ({type(error).__name__})") from None


def captioned(caption: str, trigger_word: str) -> str:
    """A caption with the trigger word in it: in place of `[trigger]`, else in front; alone where there is none."""
    caption = caption.replace("[trigger]", trigger_word).strip()
    if not caption:
        return trigger_word
    return caption if trigger_word.lower() in caption.lower() else f"{trigger_word}, {caption}"
