"""Safetensors files, by their headers: whether one is whole, and what its maker wrote into it.

The format is a length of 8 bytes, that many bytes of JSON, and the tensors; the header says where the last one ends, so
a file that is still being written, or was cut off, is known for certain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Header", "read_header"]

_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a whole file says. `step` is AI Toolkit's, None where the file has none."""

    tensors: int
    bytes: int
    metadata: Mapping[str, str]

    @property
    def step(self) -> int | None:
        """How many steps AI Toolkit had done, from its `training_info`."""
        try:
            step = json.loads(self.metadata.get("training_info", ""))["step"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return step if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None


def read_header(path: Path) -> Header | None:
    """The header of a whole safetensors file with tensors in it, else None. Blocks; reads the header alone."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
                return None
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    said = header.pop("__metadata__", None)
    ends = [_end(tensor) for tensor in header.values()]
    if not ends or None in ends or 8 + length + max(end or 0 for end in ends) != size:
        return None
    metadata = said if isinstance(said, dict) else {}
    return Header(len(ends), size, {name: text for name, text in metadata.items() if isinstance(text, str)})


def _end(tensor: Any) -> int | None:
    match tensor:
        case {"dtype": str(), "shape": list(), "data_offsets": [int(start), int(end)]} if 0 <= start <= end:
            return end
    return None
