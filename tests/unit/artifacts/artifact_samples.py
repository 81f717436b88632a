"""Small whole files of each known type."""

from __future__ import annotations

import base64
import io
import json
import random
import struct

from PIL import Image

__all__ = ["FILES", "b64", "box", "mp4", "picture", "safetensors", "webm"]


def picture(kind: str, seed: int = 1, size: int = 24) -> bytes:
    noise = random.Random(seed).randbytes(size * size * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (size, size), noise).save(out, kind)
    return out.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def mp4() -> bytes:
    return box(b"ftyp", b"isom\0\0\2\0isommp42") + box(b"moov", b"x" * 40) + box(b"mdat", b"y" * 100)


def webm() -> bytes:
    header = b"\x42\x82\x84webm"
    content = b"z" * 300
    return b"\x1a\x45\xdf\xa3" + bytes([0x80 | len(header)]) + header + b"\x18\x53\x80\x67\x41\x2c" + content


def safetensors() -> bytes:
    header = {"__metadata__": {"a": "b"}, "w": {"dtype": "F16", "shape": [4, 8], "data_offsets": [0, 64]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\1" * 64


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


FILES = {
    "png": ("image/png", picture("PNG")),
    "jpg": ("image/jpeg", picture("JPEG")),
    "webp": ("image/webp", picture("WEBP")),
    "gif": ("image/gif", picture("GIF")),
    "mp4": ("video/mp4", mp4()),
    "webm": ("video/webm", webm()),
    "safetensors": ("application/x-safetensors", safetensors()),
}
