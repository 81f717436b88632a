"""What a file is, by its bytes, and whether all of it is there.

Reads structure only: nothing is decompressed, so a hostile file costs no more than its size.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["KNOWN_EXTENSIONS", "OCTET_STREAM", "BadFile", "Content", "MediaType", "inspect", "sniff"]

#: A whole file: in memory, or, where it is large, on disk and mapped from there.
Content = bytes | mmap.mmap

OCTET_STREAM = "application/octet-stream"


class BadFile(ValueError):
    """The bytes are not a whole file of their type; the message says what is wrong, for a developer."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A kind of file: its content type and the extension that its names get."""

    content_type: str
    extension: str


PNG = MediaType("image/png", "png")
JPEG = MediaType("image/jpeg", "jpg")
WEBP = MediaType("image/webp", "webp")
GIF = MediaType("image/gif", "gif")
MP4 = MediaType("video/mp4", "mp4")
WEBM = MediaType("video/webm", "webm")
SAFETENSORS = MediaType("application/x-safetensors", "safetensors")

#: Extensions whose files can be checked. A file so named that is none of these types is not what it says.
KNOWN_EXTENSIONS = frozenset({"png", "jpg", "jpeg", "webp", "gif", "mp4", "webm", "safetensors"})

# Brands of ISO media files that are MP4 video; HEIC, AVIF and QuickTime share the container and are not.
_MP4_BRANDS = frozenset({b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash"})
#: Zero bytes that may follow a JPEG.
_LONGEST_PADDING = 1_048_576
_MAX_SAFETENSORS_HEADER = 100_000_000  # the format's own limit
_EBML = b"\x1a\x45\xdf\xa3"
_EBML_SEGMENT = b"\x18\x53\x80\x67"


def sniff(head: bytes) -> MediaType | None:
    """The type that the first bytes claim (64 are enough), or None if it is none of those known here."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    return _sniff_container(head)


def _sniff_container(head: bytes) -> MediaType | None:
    if head[4:8] == b"ftyp" and head[8:12] in _MP4_BRANDS:
        return MP4
    if head.startswith(_EBML) and b"webm" in head[:64]:
        return WEBM
    if head[8:10] == b'{"' and 2 <= int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER:
        return SAFETENSORS
    return None


def inspect(data: Content) -> MediaType | None:
    """The type of a whole file, or None if unknown. Raises `BadFile` if it is empty, damaged or cut short."""
    if not data:
        raise BadFile("it is empty")
    media = sniff(data[:64])
    if media is not None:
        try:
            _CHECKS[media](data)
        except (struct.error, IndexError) as error:
            raise BadFile(f"{media.extension.upper()} cut short") from error
    return media


def _check_png(data: Content) -> None:
    position, kinds = 8, list[bytes]()
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise BadFile(f"PNG cut short in its chunk {kind!r}")
        (stored,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != stored:
            raise BadFile(f"PNG damaged in its chunk {kind!r} (checksum)")
        kinds.append(kind)
        position = end
        if kind == b"IEND":
            break
    if kinds[0] != b"IHDR" or b"IDAT" not in kinds:
        raise BadFile("PNG without header or image data")


def _check_jpeg(data: Content) -> None:
    position = 2
    while True:  # the segments before the image data, each with its length
        if data[position] != 0xFF:
            raise BadFile("JPEG damaged before its image data")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:  # start of scan
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        position += 2 + length
    if not data[-_LONGEST_PADDING:].rstrip(b"\0").endswith(b"\xff\xd9"):
        raise BadFile("JPEG cut short: no end-of-image marker")


def _check_webp(data: Content) -> None:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise BadFile(f"WEBP cut short: {len(data)} of {size + 8} bytes")
    if size < 12 or data[12:16] not in {b"VP8 ", b"VP8L", b"VP8X"}:
        raise BadFile("WEBP without image data")


def _check_gif(data: Content) -> None:
    position = 13 + _gif_table(data[10])
    while data[position] != 0x3B:  # trailer
        if data[position] == 0x21:  # extension
            position += 2
        elif data[position] == 0x2C:  # image: descriptor, colour table, code size
            position += 11 + _gif_table(data[position + 9])
        else:
            raise BadFile("GIF damaged between its blocks")
        while data[position]:
            position += 1 + data[position]
        position += 1


def _gif_table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _check_mp4(data: Content) -> None:
    position, kinds = 0, set[bytes]()
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        if size == 0:  # up to the end of the file
            size = len(data) - position
        elif size == 1:
            (size,) = struct.unpack_from(">Q", data, position + 8)
        if size < 8 or position + size > len(data):
            raise BadFile(f"MP4 cut short in its box {kind!r}")
        kinds.add(kind)
        position += size
    if not kinds >= {b"moov", b"mdat"}:
        raise BadFile("MP4 cut short: without index (moov) or content (mdat)")


def _check_webm(data: Content) -> None:
    header, position = _ebml_size(data, 4)
    if header is None:
        raise BadFile("WEBM damaged in its header")
    position += header
    if data[position : position + 4] != _EBML_SEGMENT:
        raise BadFile("WEBM cut short before its content")
    size, position = _ebml_size(data, position + 4)
    if size is not None and position + size > len(data):
        raise BadFile(f"WEBM cut short: {len(data)} of {position + size} bytes")


def _ebml_size(data: Content, position: int) -> tuple[int | None, int]:
    """An EBML length and where it ends; None for "unknown", which live streams use."""
    width = 9 - data[position].bit_length()
    raw = data[position : position + width]
    if width > 8 or len(raw) < width:
        raise BadFile("WEBM damaged or cut short")
    value = int.from_bytes(raw, "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), position + width


def _check_safetensors(data: Content) -> None:
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise BadFile("safetensors file cut short in its header")
    try:
        header = json.loads(data[8:start])
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        wanted = start + max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise BadFile("safetensors file damaged in its header") from error
    if wanted > len(data):
        raise BadFile(f"safetensors file cut short: {len(data)} of {wanted} bytes")


_CHECKS: dict[MediaType, Callable[[Content], None]] = {
    PNG: _check_png,
    JPEG: _check_jpeg,
    WEBP: _check_webp,
    GIF: _check_gif,
    MP4: _check_mp4,
    WEBM: _check_webm,
    SAFETENSORS: _check_safetensors,
}
