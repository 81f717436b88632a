"""One file of an output: its text decoded, its bytes checked, its name made safe and true."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from ryla_tasks.artifacts.media import KNOWN_EXTENSIONS, OCTET_STREAM, BadFile, Content, inspect
from ryla_tasks.errors import Category, OutputInvalid

__all__ = ["OutputFile", "OutputLimits", "checked_file", "from_base64", "invalid", "safe_name", "sentence"]

_EXTENSION = re.compile(r"[a-z0-9]{1,12}")
_UNSAFE = re.compile(r"[^\w.@=+,~ ()-]+")
_MAX_NAME = 120


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """What a job's output may amount to: bytes of one file, and the number of files."""

    max_file_bytes: int = 512 * 1024 * 1024
    max_files: int = 256


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file of an output: `data`, checked, or a `url` still to be fetched, whose `content_type` is not known."""

    filename: str
    data: Content | None = field(repr=False)
    url: str | None = field(repr=False)
    content_type: str


def invalid(message: str, details: object) -> OutputInvalid:
    """The error for an output that is not what was asked for: a sentence for the user, details for a developer."""
    return OutputInvalid(
        message, {"code": OutputInvalid.code, "category": Category.PERMANENT.value, "details": details}
    )


def from_base64(text: str, label: str, limits: OutputLimits) -> bytes:
    """Decode base64 text or a data URI, strictly: nothing outside the alphabet but white space, padding complete."""
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise invalid(f"{sentence(label)} could not be read.", f"{label}: a data URI that is not base64")
    # Before decoding, so that what is too large is not held twice; line breaks may make up a sixteenth of the text.
    if len(text) * 3 // 4 > limits.max_file_bytes * 17 // 16 + 64:
        raise _too_large(label, len(text) * 3 // 4, limits)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{sentence(label)} could not be read.", f"{label}: not valid base64 ({error})") from None


def checked_file(declared_name: str, data: Content, label: str, limits: OutputLimits) -> OutputFile:
    """The file with the type that its bytes have and a name that fits it; `OutputInvalid` if it is not whole.

    A name whose extension belongs to another known type is corrected. Bytes of no known type pass as
    `application/octet-stream`, unless the name says that they are a type that could have been checked.
    """
    if len(data) > limits.max_file_bytes:
        raise _too_large(label, len(data), limits)
    try:
        media = inspect(data)
    except BadFile as error:
        raise invalid(f"{sentence(label)} is damaged or incomplete.", f"{label}: {error}") from None
    stem, extension = _split(declared_name)
    if media is None:
        if extension in KNOWN_EXTENSIONS:
            raise invalid(f"{sentence(label)} is damaged.", f"{label}: the bytes are not {extension.upper()}")
        return OutputFile(f"{stem}.{extension or 'bin'}", data, None, OCTET_STREAM)
    if extension == "jpeg" and media.extension == "jpg":
        return OutputFile(f"{stem}.jpeg", data, None, media.content_type)
    return OutputFile(f"{stem}.{media.extension}", data, None, media.content_type)


def sentence(label: str) -> str:
    """A label at the start of a sentence."""
    return label[:1].upper() + label[1:]


def safe_name(name: str) -> str:
    """A worker's file name without folders or anything odd."""
    stem, extension = _split(name)
    return f"{stem}.{extension}" if extension else stem


def _split(name: str) -> tuple[str, str]:
    """A worker's file name as a safe stem and a lower-case extension, which may be empty."""
    name = _UNSAFE.sub("_", name.replace("\\", "/").rpartition("/")[2]).strip(". ")
    stem, dot, suffix = name.rpartition(".")
    if dot and _EXTENSION.fullmatch(suffix.lower()):
        return stem[:_MAX_NAME].strip(". ") or "file", suffix.lower()
    return name[:_MAX_NAME].strip(". ") or "file", ""


def _too_large(label: str, size: int, limits: OutputLimits) -> OutputInvalid:
    return invalid(f"{sentence(label)} is too large.", f"{label}: about {size} bytes, {limits.max_file_bytes} allowed")
