"""Zips of training images: unpacked flat, and within limits that hold whatever the archive says of itself."""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workers.lora_trainer.errors import DatasetInvalid

__all__ = ["IMAGE_SUFFIXES", "Limits", "unpack"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

_FIELD = "dataset_url"
_CAPTION_SUFFIX = ".txt"
_MOST_CAPTION_BYTES = 20_000
_CHUNK = 1 << 20
#: The end record and the longest comment behind it.
_TAIL = 22 + 65_535
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x07"
#: Names in an archive are short: 1,000 bytes for each file is more than enough.
_DIRECTORY_BYTES_PER_FILE = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """`files` counts everything in the archive, captions and what is left out too; bytes are those unpacked."""

    files: int
    file_bytes: int
    total_bytes: int


def unpack(archive: Path, to: Path, limits: Limits) -> list[Path]:
    """Unpack images and captions into the folder, without the folders they were in. Blocks; run it in a thread.

    What is neither an image nor a caption is left out; hidden files and `__MACOSX` too. Raises `DatasetInvalid` for
    an archive that is no zip, is encrypted, points out of the folder, has links or doubled names, or is too large.
    Bytes are counted as they come, so what the archive claims does not matter.
    """
    _check_directory(archive, limits)
    to.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, limits)
            left = limits.total_bytes
            written = []
            for name, member in members.items():
                most = min(_MOST_CAPTION_BYTES if name.endswith(_CAPTION_SUFFIX) else limits.file_bytes, left)
                left -= _write(opened, member, to / name, most)
                written.append(to / name)
            return written
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise DatasetInvalid(_FIELD, f"the zip cannot be read ({type(error).__name__})") from None


def _check_directory(archive: Path, limits: Limits) -> None:
    """Look at the end record first: `zipfile` reads the whole directory into memory, however long it is."""
    with archive.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise DatasetInvalid(_FIELD, "this is not a zip")
    if tail.rfind(_END_64, 0, at) >= 0:
        raise DatasetInvalid(_FIELD, "the zip is in the zip64 format, which is for more than 65,535 files or 4 GB")
    files = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory = int.from_bytes(tail[at + 12 : at + 16], "little")
    if files > limits.files or directory > limits.files * _DIRECTORY_BYTES_PER_FILE:
        raise DatasetInvalid(_FIELD, f"the zip has more than {limits.files} files")


def _members(opened: zipfile.ZipFile, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    infos = opened.infolist()
    if len(infos) > limits.files:
        raise DatasetInvalid(_FIELD, f"the zip has more than {limits.files} files")
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
            raise DatasetInvalid(_FIELD, "the zip has a path that leads out of its folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DatasetInvalid(_FIELD, "the zip has a link in it")
        suffix = path.suffix.lower()
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if info.is_dir() or hidden or suffix not in IMAGE_SUFFIXES | {_CAPTION_SUFFIX}:
            continue
        if info.flag_bits & 1:
            raise DatasetInvalid(_FIELD, "the zip is encrypted")
        name = path.stem[:150] + suffix
        if name.lower() in (one.lower() for one in members):
            raise DatasetInvalid(_FIELD, "the zip has two files of the same name in different folders")
        members[name] = info
    return members


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path, most: int) -> int:
    written = 0
    with opened.open(member) as source, to.open("xb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > most:
                raise DatasetInvalid(_FIELD, "the zip, or a file in it, is too large when unpacked")
            target.write(chunk)
    return written
