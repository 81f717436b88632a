"""tqdm's progress bars, read back from the lines that it prints. Pure.

my_lora:  12%|█▏        | 250/2000 [01:02<07:14,  4.03it/s, lr: 1.0e-04 loss: 3.457e-01]
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Bar", "parse_bar"]

_BAR = re.compile(
    r"(?P<name>[^|]{0,300}?):?\s*(?P<percent>\d{1,3})%\|(?P<drawn>[^|]{0,300})\|\s*"
    r"(?P<done>\d{1,12})/(?P<total>\d{1,12})\s\["
    r"(?P<elapsed>[\d:]{4,24})<(?P<left>[\d:]{4,24}|\?)"
    r"(?:,\s+(?P<rate>[^,\]\s]{1,30}))?(?:,\s+(?P<postfix>[^\]]{0,300}))?\]"
)
_LOSS = re.compile(r"(?:^|[\s,])loss:\s*([-+]?(?:\d{1,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?|nan|inf))(?=[\s,\]]|$)")


@dataclass(frozen=True, slots=True)
class Bar:
    """One state of a bar. `left_s` is None where tqdm cannot say yet; `loss` is None where there is none."""

    name: str
    done: int
    total: int
    left_s: float | None = None
    loss: float | None = None


def parse_bar(line: str) -> Bar | None:
    """The last bar in a line, None where there is none. A bar that counts bytes (`1.2G/9.8G`) is none."""
    bars = list(_BAR.finditer(line))
    if not bars:
        return None
    found = bars[-1]
    done, total = int(found["done"]), int(found["total"])
    if total <= 0 or done > total:
        return None
    name = found["name"].strip()
    return Bar(name, done, total, _seconds(found["left"]), _loss(found["postfix"] or ""))


def _seconds(text: str) -> float | None:
    """`MM:SS` or `H:MM:SS`."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3 or not all(part.isdigit() for part in parts):
        return None
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return seconds


def _loss(postfix: str) -> float | None:
    match = _LOSS.search(postfix)
    return float(match[1]) if match else None
