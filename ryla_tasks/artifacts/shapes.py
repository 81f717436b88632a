"""Where the files are in the JSON that a GPU worker returned.

Known shapes: worker-comfyui from version 5 (`images: [{filename, type: base64 | s3_url, data}]`) and before it
(`message`: base64 or URL); lists or single values under `images`, `image`, `lora`, `videos`, `video`, `files`, `file`
and `artifacts`, each an object with `data` or `url`, a data URI, a URL, or base64 of a known type of file. Everything
else is left as JSON.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ryla_tasks.artifacts.media import sniff

__all__ = ["Found", "RawFile", "find_files", "is_older_comfyui", "is_url"]

_IMAGE_KEYS = frozenset({"images", "image"})
_FILE_KEYS = ("images", "image", "lora", "videos", "video", "files", "file", "artifacts")
_NAME_KEYS = ("filename", "fileName", "file_name", "name")
_CONTENT_KEYS = ("data", "url", "image", "base64")
_OLDER_KEYS = frozenset({"message", "status", "refresh_worker"})
# Tuples, as the value looked for in them may be anything, also what has no hash.
_LINK_TYPES = ("s3_url", "url")
_TYPES = (*_LINK_TYPES, "base64")
_ALL_USED: Any = object()


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file as the worker sent it: base64 text, a data URI, or a URL. `noun` is what to call it; `is_link` that the
    worker called it a URL."""

    noun: str
    filename: str
    content: str = field(repr=False)
    is_link: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The files, in the worker's order, and the JSON without them (None if nothing else was there)."""

    files: list[RawFile]
    rest: Any


def find_files(output: Any, *, strict: bool) -> Found:
    """Take the files out of `output`, which is not changed.

    `strict` means that images are wanted: whatever stands where an image should is then taken for one, so that
    the caller can say what is wrong with it. Otherwise only what is unmistakably a file is taken.
    """
    files: list[RawFile] = []
    rest = _take(output, files, strict=strict)
    return Found(files, None if rest is _ALL_USED else rest)


def is_older_comfyui(output: Any) -> bool:
    """Whether this is the shape of worker-comfyui before version 5: `{"message": text, "status": word}`."""
    return isinstance(output, dict) and isinstance(output.get("message"), str) and output.keys() <= _OLDER_KEYS


def is_url(text: str) -> bool:
    return text[:8].lower().startswith(("https://", "http://"))


def _take(value: Any, files: list[RawFile], *, strict: bool) -> Any:
    if isinstance(value, str):
        if _is_inline(value) or (strict and is_url(value)):
            files.append(RawFile("image" if strict else "file", _name("", value, strict=strict), value))
            return _ALL_USED
        return value
    if isinstance(value, list):
        # A worker's chunks, joined to a list. Lists in lists are no known shape, and may be deep.
        left = [item if isinstance(item, list) else _take(item, files, strict=strict) for item in value]
        return [item for item in left if item is not _ALL_USED] or _ALL_USED
    if is_older_comfyui(value):
        return _take_message(value, files, strict=strict)
    if isinstance(value, dict):
        return _take_object(value, files, strict=strict)
    return value


def _take_message(value: dict[str, Any], files: list[RawFile], *, strict: bool) -> Any:
    message = value["message"]
    if not (strict or is_url(message) or _is_inline(message)):
        return value
    files.append(RawFile("image", _name("", message, strict=True), message))
    return _ALL_USED


def _take_object(value: dict[str, Any], files: list[RawFile], *, strict: bool) -> Any:
    if value.get("type") in _TYPES and isinstance(value.get("data"), str):
        return _take_item(value, "file", files, strict=strict)
    rest: dict[str, Any] = {}
    for key, entry in value.items():
        left = entry
        if key in _FILE_KEYS:
            noun = "image" if key in _IMAGE_KEYS else "file"
            left = _take_entry(entry, noun, files, strict=strict and noun == "image")
        if left is not _ALL_USED:
            rest[key] = left
    return rest or _ALL_USED


def _take_entry(entry: Any, noun: str, files: list[RawFile], *, strict: bool) -> Any:
    if not isinstance(entry, list):
        return _take_item(entry, noun, files, strict=strict)
    left = [_take_item(item, noun, files, strict=strict) for item in entry]
    kept = [item for item in left if item is not _ALL_USED]
    return kept or _ALL_USED


def _take_item(item: Any, noun: str, files: list[RawFile], *, strict: bool) -> Any:
    """One entry of a list of files. What an object says besides (its seed, say) is left."""
    if isinstance(item, str):
        if not (strict or is_url(item) or _is_inline(item)):
            return item
        files.append(RawFile(noun, _name("", item, strict=strict), item))
        return _ALL_USED
    if not isinstance(item, dict):
        return _unreadable(item, noun, files, strict=strict)
    key = next((name for name in _CONTENT_KEYS if isinstance(item.get(name), str)), None)
    claimed = item.get("type") in _TYPES or (strict and key is not None)
    if key is None or not (claimed or is_url(item[key]) or _is_inline(item[key])):
        return _unreadable(item, noun, files, strict=strict or item.get("type") in _TYPES)
    name = _name(_declared_name(item), item[key], strict=strict)
    files.append(RawFile(noun, name, item[key], is_link=item.get("type") in _LINK_TYPES))
    used = {key, "type", "kind", *_NAME_KEYS} if item.get("type") in _TYPES else {key, *_NAME_KEYS}
    return {name: value for name, value in item.items() if name not in used} or _ALL_USED


def _unreadable(item: Any, noun: str, files: list[RawFile], *, strict: bool) -> Any:
    """Where a file must be, an entry without content counts as an empty one, which is then refused by its name."""
    if not strict:
        return item
    files.append(RawFile(noun, _declared_name(item) if isinstance(item, dict) else "", ""))
    return _ALL_USED


def _is_inline(text: str) -> bool:
    """Whether the text is a data URI, or starts as base64 of a type of file known here."""
    if text[:5].lower() == "data:":
        return ";base64," in text[:200].lower()
    head = "".join(text[:200].split())[:64]
    try:
        return sniff(base64.b64decode(head[: len(head) // 4 * 4], validate=True)) is not None
    except (binascii.Error, ValueError):
        return False


def _declared_name(item: dict[str, Any]) -> str:
    return next((item[name] for name in _NAME_KEYS if isinstance(item.get(name), str)), "")


def _name(declared: str, content: str, *, strict: bool) -> str:
    """The worker's name for the file, else its URL's; an image without any is taken for ComfyUI's usual PNG."""
    name = declared
    if not name and is_url(content):
        try:
            name = unquote(urlsplit(content).path).rpartition("/")[2]
        except ValueError:
            name = ""
    return name or ("image.png" if strict else "")
