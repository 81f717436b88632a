"""Paints the picture of a simulated GPU worker."""

from __future__ import annotations

import colorsys
import textwrap
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from random import Random

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from .workflow import Picture

__all__ = ["MARK", "paint"]

MARK = "SIMULATED"

_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def paint(picture: Picture) -> bytes:
    """A PNG of the asked-for size, the same bytes for the same picture, with MARK across it and in its metadata.

    Flat shapes: they compress to a few kilobytes and cost milliseconds, where noise would be megabytes.
    """
    # JSON may carry half a surrogate pair, which nothing can encode.
    prompt = picture.prompt.encode(errors="replace").decode()
    key = f"{picture.seed}\n{picture.index}\n{prompt}\n{picture.negative}".encode(errors="replace")
    random = Random(sha256(key).digest())
    size = (picture.width, picture.height)
    hue = random.random()
    image = Image.new("RGB", size, _colour(hue, 0.35, 0.25))
    draw = ImageDraw.Draw(image)
    for _ in range(18):
        _shape(draw, random, hue, size)
    _caption(draw, picture, prompt)
    info = PngInfo()
    info.add_text("Software", f"ryla simulator ({MARK})")
    info.add_itxt("Prompt", prompt)
    info.add_text("Seed", str(picture.seed))
    out = BytesIO()
    image.save(out, "PNG", compress_level=3, pnginfo=info)
    return out.getvalue()


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _shape(draw: ImageDraw.ImageDraw, random: Random, hue: float, size: tuple[int, int]) -> None:
    width, height = size
    x, y = random.uniform(-0.1, 0.9) * width, random.uniform(-0.1, 0.9) * height
    box = (x, y, x + random.uniform(0.1, 0.5) * width, y + random.uniform(0.1, 0.5) * height)
    colour = _colour(hue + random.uniform(-0.15, 0.15), random.uniform(0.4, 0.8), random.uniform(0.35, 0.9))
    if random.random() < 0.6:
        draw.ellipse(box, fill=colour)
    else:
        draw.rectangle(box, fill=colour)


def _caption(draw: ImageDraw.ImageDraw, picture: Picture, prompt: str) -> None:
    """MARK as wide as the picture, and below it what was asked for."""
    width, height = picture.width, picture.height
    mark = _font(max(min(width // 7, height // 3), 8))
    small = _font(max(min(width, height) // 24, 8))
    _, top, _, bottom = draw.textbbox((width / 2, height / 2), MARK, font=mark, anchor="mm")
    draw.rectangle((0, top - 4, width, bottom + 4), fill=(0, 0, 0))
    draw.text((width / 2, height / 2), MARK, font=mark, anchor="mm", fill=(255, 255, 255))
    columns = max(int(width / max(draw.textlength("n", font=small), 1)) - 2, 8)
    lines = [*textwrap.wrap(prompt, columns)[:4], f"seed {picture.seed} · {width}x{height}"]
    spacing = small.size + 2 if isinstance(small, ImageFont.FreeTypeFont) else 12
    for row, line in enumerate(lines):
        draw.text((6, bottom + 8 + row * spacing), line, font=small, fill=(255, 255, 255))


@lru_cache(maxsize=64)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)
