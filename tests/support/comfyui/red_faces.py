"""A face detector for tests: a red picture is a face."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

__all__ = ["count_red"]


def count_red(path: Path) -> int:
    """One where the picture's corner is red."""
    with Image.open(path) as shown:
        return int(shown.convert("RGB").getpixel((1, 1)) == (255, 0, 0))
