"""Checkpoints as AI Toolkit writes them: `NAME_000000250.safetensors` and, last, `NAME.safetensors`.

It writes them under their final names, so a name alone says nothing. One is complete when its header fits its size, two
looks have found it unchanged, and the trainer has it open no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from workers.lora_trainer.tensors import read_header

__all__ = ["Checkpoint", "CheckpointWatch", "Steady"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete one. `step` is the one in its name."""

    path: Path
    step: int


class Steady:
    """Tells which files have stopped changing: found with the same size and time in two looks, and not held open."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int]] = {}

    def is_steady(self, path: Path, pid: int | None) -> bool:
        """Whether the file is as it was at the last look. `pid` is the process that may have it open."""
        try:
            found = path.stat()
        except OSError:
            self._seen.pop(path, None)
            return False
        mark = (found.st_size, found.st_mtime_ns)
        same = self._seen.get(path) == mark
        self._seen[path] = mark
        return same and not (pid is not None and _holds(pid, path))


class CheckpointWatch:
    """Finds each checkpoint once, when it is complete."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._pattern = re.compile(re.escape(name) + r"_(\d{9})\.safetensors\Z")
        self._steady = Steady()
        self._given: set[str] = set()

    def skip(self, name: str) -> None:
        """Never give the file of this name: it is where the run goes on from."""
        self._given.add(name)

    def look(self, pid: int | None = None) -> list[Checkpoint]:
        """The checkpoints that have become complete, oldest first. Blocks; run it in a thread.

        Without a `pid` the trainer is gone, and nothing changes any more.
        """
        found = []
        for path in sorted(self._folder.glob("*.safetensors")):
            match = self._pattern.fullmatch(path.name)
            if match is None or path.name in self._given:
                continue
            if (pid is None or self._steady.is_steady(path, pid)) and read_header(path) is not None:
                self._given.add(path.name)
                found.append(Checkpoint(path, int(match[1])))
        return found


def _holds(pid: int, path: Path) -> bool:
    """Whether the process has the file open. False where this cannot be found out."""
    try:
        return any(_target(link) == path for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None
