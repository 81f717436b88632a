"""Small charts as inline SVG: they take their colours from the page's style, so that they follow dark, light and print.

Every text in them is escaped here. Each has a title for those who hear it; the figures stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "bars", "columns", "lines", "nice_top"]

_WIDTH = 860
_BAR_H, _GAP_H, _LABEL_W, _VALUE_W = 22, 12, 250, 150
_PLOT_H, _TOP, _BOTTOM, _LEFT, _RIGHT = 180, 14, 26, 64, 12
_LONGEST_LABEL = 38


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its name, its parts in order, each with the class that colours it, and what stands beside it."""

    name: str
    parts: tuple[tuple[str, float], ...]
    value: str = ""

    @property
    def total(self) -> float:
        return sum(size for _, size in self.parts)


def bars(title: str, rows: Sequence[Bar], *, most: float | None = None) -> str:
    """Bars from left to right, a row each, as long as their part of `most` (the longest, where not given)."""
    top = most or max((row.total for row in rows), default=0.0) or 1.0
    room = _WIDTH - _LABEL_W - _VALUE_W
    drawn, y = [], 4
    for row in rows:
        x = float(_LABEL_W)
        drawn.append(_text(_LABEL_W - 10, y + 16, _short(row.name), "end"))
        for colour, size in row.parts:
            width = max(0.0, size) / top * room
            tip = f"{row.name}: {row.value}"
            drawn.append(_rect(x, y, width, _BAR_H, colour, tip))
            x += width
        drawn.append(_text(x + 8, y + 16, row.value, "start"))
        y += _BAR_H + _GAP_H
    return _svg(title, y, drawn)


def columns(title: str, rows: Sequence[Bar], unit: Callable[[float], str]) -> str:
    """Columns side by side with an axis to the left; `unit` writes its figures. Names are thinned out to fit."""
    top = nice_top(max((row.total for row in rows), default=0.0))
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(rows))
    width, every = min(step * 0.72, 56), max(1, math.ceil(len(rows) / (12 if len(rows) > 24 else 24)))
    drawn = _axis(top, unit)
    for place, row in enumerate(rows):
        left, foot = _LEFT + place * step + (step - width) / 2, float(_TOP + _PLOT_H)
        for colour, size in row.parts:
            height = max(0.0, size) / top * _PLOT_H
            foot -= height
            drawn.append(_rect(left, foot, width, height, colour, f"{row.name}: {row.value or unit(row.total)}"))
        if place % every == 0 and (len(row.name) < 4 or step * every > 6.2 * len(row.name)):
            drawn.append(_text(left + width / 2, _TOP + _PLOT_H + 18, row.name, "middle"))
    return _svg(title, _TOP + _PLOT_H + _BOTTOM, drawn)


def lines(
    title: str,
    rows: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    unit: Callable[[float], str],
    *,
    most_x: float,
    x_unit: str,
    marks: Sequence[tuple[str, float, float]] = (),
) -> str:
    """Lines over a scale from 0 to `most_x`: each its name, its class and its points; `marks` are single points."""
    points = [y for _, _, line in rows for _, y in line] + [y for _, _, y in marks]
    top, room = nice_top(max(points, default=0.0)), _WIDTH - _LEFT - _RIGHT

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + min(x / most_x, 1.0) * room, _TOP + _PLOT_H * (1 - y / top)

    drawn = _axis(top, unit)
    for place in range(5):
        x = most_x * place / 4
        drawn.append(_text(at(x, 0)[0], _TOP + _PLOT_H + 18, f"{x:g}{x_unit}", "end" if place == 4 else "middle"))
    for name, colour, line in rows:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line))
        drawn.append(f'<polyline class="line {colour}" points="{path}"><title>{escape(name)}</title></polyline>')
    for name, x, y in marks:
        here = at(x, y)
        anchor, away = ("end", -10) if here[0] > _WIDTH * 0.7 else ("start", 10)
        drawn.append(f'<circle class="mark" cx="{here[0]:.1f}" cy="{here[1]:.1f}" r="5"/>')
        drawn.append(_text(here[0] + away, max(here[1] - 8, 12), name, anchor, "strong"))
    return _svg(title, _TOP + _PLOT_H + _BOTTOM, drawn)


def nice_top(most: float) -> float:
    """The end of a scale: the next 1, 2, 2.5, 4, 5, 6, 8 or 10 of a power of ten."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 6, 8, 10, 20) if step * power >= most)


def _axis(top: float, unit: Callable[[float], str]) -> list[str]:
    drawn = []
    for place in range(5):
        y = _TOP + _PLOT_H * (1 - place / 4)
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(_text(_LEFT - 8, y + 4, unit(top * place / 4), "end"))
    return drawn


def _rect(x: float, y: float, width: float, height: float, colour: str, tip: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{colour}" {place}><title>{escape(tip)}</title></rect>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _svg(title: str, height: float, drawn: Sequence[str]) -> str:
    head = f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {_WIDTH} {height:.0f}">'
    return f'<div class="wide">{head}<title>{escape(title)}</title>{"".join(drawn)}</svg></div>'
