"""Input images for tests."""

from __future__ import annotations

import base64
import io

from PIL import Image

__all__ = ["picture", "picture_bytes"]


def picture(shade: int = 0, side: int = 64) -> dict[str, str]:
    """A small image, as a task takes it."""
    return {"image": base64.b64encode(picture_bytes(shade, side)).decode()}


def picture_bytes(shade: int = 0, side: int = 64) -> bytes:
    """A small PNG."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (shade, 30, 200)).save(out, "PNG")
    return out.getvalue()
