"""Images that go into a workflow: the forms in which one is given, and what the GPU worker is sent for it.

Whatever the form, the LoadImage node gets a file name; the image travels beside the workflow under that name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ryla_tasks.artifacts.media import BadFile, inspect

__all__ = ["BadImage", "InputImage", "input_image"]

_NAME = re.compile(r"[^\x00-\x1f\\:*?\"<>|]{1,255}")
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "gif")
_MOST_URL = 4096


class BadImage(ValueError):
    """The value is no image; the message says why, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class InputImage:
    """One image of a job: the file name that its LoadImage node has, and where it comes from.

    `image` is base64, `url` is fetched by the GPU worker (ours can; worker-comfyui cannot). With neither the worker
    has the file already, or the caller sends it under that name.
    """

    name: str
    image: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, str] | None:
        """The entry in the job input's `images`, None where nothing is sent."""
        if self.image is not None:
            return {"name": self.name, "image": self.image}
        return None if self.url is None else {"name": self.name, "url": self.url}


def input_image(value: Any, stem: str) -> InputImage:
    """Read an image in any of its forms: `{"url": ...}`, `{"image": base64 or data URI}`, a URL or a data URI as text,
    or the name of a file. What is sent is named after `stem` and its content, so that no two names clash and the same
    image has the same name each time. Raises `BadImage`.
    """
    if isinstance(value, Mapping):
        if value.keys() == {"url"}:
            return _from_url(value["url"], stem)
        if value.keys() == {"image"}:
            return _from_base64(value["image"], stem)
        raise BadImage('an image is {"url": ...}, {"image": <base64>}, an artifact of a result, or a file name')
    if not isinstance(value, str):
        raise BadImage(f"an image is an object or text, not {type(value).__name__}")
    if value[:8].lower().startswith(("https://", "http://")):
        return _from_url(value, stem)
    if value[:5].lower() == "data:":
        return _from_base64(value, stem)
    return InputImage(_file_name(value))


def _from_url(url: Any, stem: str) -> InputImage:
    if not isinstance(url, str) or len(url) > _MOST_URL or re.search(r"[\x00-\x20\x7f]", url):
        raise BadImage(f"its url must be text of at most {_MOST_URL} characters without blanks")
    try:
        parts = urlsplit(url)
        usable = parts.scheme.lower() in ("https", "http") and bool(parts.hostname) and parts.username is None
        url.encode()
    except ValueError:
        usable = False
    if not usable:
        raise BadImage("its url must be one of https, with a host and without a user name")
    ending = parts.path.rpartition(".")[2].lower()
    return InputImage(_unique(stem, url, ending if ending in _EXTENSIONS else "png"), url=url)


def _from_base64(text: Any, stem: str) -> InputImage:
    if not isinstance(text, str) or not text:
        raise BadImage("its image must be base64 text or a data URI")
    found = _DATA_URI.match(text)
    if text[:5].lower() == "data:" and found is None:
        raise BadImage("its data URI is not data:image/...;base64,...")
    try:
        data = base64.b64decode(text[found.end() :] if found else text, validate=True)
        media = inspect(data)
    except (binascii.Error, ValueError) as error:
        reason = str(error) if isinstance(error, BadFile) else "it is not base64"
        raise BadImage(f"the image given is unusable: {reason}") from None
    if media is None or not media.content_type.startswith("image/"):
        raise BadImage("the image given is no PNG, JPEG, WebP or GIF")
    return InputImage(_unique(stem, text, media.extension), image=text)


def _file_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name.startswith("/") or ".." in name.split("/"):
        raise BadImage("a file name has 1 to 255 characters and stays within the worker's input folder")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadImage("the file name is not valid Unicode") from None
    return name


def _unique(stem: str, content: str, extension: str) -> str:
    return f"{stem}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.{extension}"
