"""The versions of what ryla_tasks is built on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from ryla_tasks.doctor.finding import Finding, ok, problem

if TYPE_CHECKING:
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["versions"]

#: From which version on, and below which: as in pyproject.toml (a test compares). docs/adr/0001-celery-version.md.
RANGES = {"celery": ("5.7", "5.8"), "kombu": ("5.7", "5.8"), "redis": ("7", "9")}


def versions(runtime: Runtime, version_of: Callable[[str], str] = version) -> Iterator[Finding]:  # noqa: ARG001
    found = {name: version_of(name) for name in RANGES}
    wrong = {name for name, text in found.items() if not _is_within(text, *RANGES[name])}
    for name in sorted(wrong):
        least, below = RANGES[name]
        yield problem(
            f"{name} {found[name]} is none that ryla_tasks works with",
            f"Install {name}>={least},<{below}: what follows from a restart of Redis differs between versions.",
        )
    if not wrong:
        yield ok(", ".join(f"{name} {text}" for name, text in found.items()))


def _is_within(text: str, least: str, below: str) -> bool:
    return _numbers(least) <= _numbers(text) < _numbers(below)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
