"""What a benchmark found: measures side by side, marks, and how they are shown."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

__all__ = ["Mark", "Measure", "Part", "machine", "median", "percentile", "show", "to_json", "to_markdown"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of ours, and the same of plain Celery where it has one."""

    what: str
    unit: str
    ours: float
    plain: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.plain if self.plain else None


@dataclass(frozen=True, slots=True)
class Mark:
    """What a number should be: at least or at most `limit`."""

    what: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark's result. `details` is anything more that belongs into the JSON."""

    name: str
    about: str
    measures: tuple[Measure, ...]
    marks: tuple[Mark, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which `percent` of all lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    packages = {name: version(name) for name in ("celery", "kombu", "redis", "requests", "urllib3")}
    return {
        "system": platform.system(),
        "cpu": model,
        "cpus": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        **packages,
    }


def show(console: Console, part: Part) -> None:
    """A part as a table, and its marks below."""
    console.print(f"[bold]{part.name}[/]: {part.about}", highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("measure")
    for name in ("ryla_tasks", "plain Celery", "ratio"):
        table.add_column(name, justify="right")
    for one in part.measures:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        table.add_row(f"{one.what}, {one.unit}", _number(one.ours), _number(one.plain), ratio)
    console.print(table)
    for mark in part.marks:
        verdict = "[green]pass[/]" if mark.passed else "[red]fail[/]"
        sign = "at most" if mark.at_most else "at least"
        console.print(f"  {verdict}  {mark.what}: {_number(mark.value)} ({sign} {mark.limit:g})", highlight=False)
    console.print()


def to_json(parts: Sequence[Part]) -> str:
    """All parts, with the machine."""
    found = [
        {
            "name": part.name,
            "about": part.about,
            "measures": [{**asdict(one), "ratio": one.ratio} for one in part.measures],
            "marks": [{**asdict(mark), "passed": mark.passed} for mark in part.marks],
            "details": part.details,
        }
        for part in parts
    ]
    return json.dumps({"machine": machine(), "parts": found}, indent=2)


def to_markdown(parts: Sequence[Part], *, quick: bool) -> str:
    """The page `docs/benchmarks.md`: how it was measured, on what, and a table for each part."""
    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [_INTRODUCTION.strip(), "", f"Measured{' with `--quick`' if quick else ''} on: {where}.", ""]
    for part in parts:
        lines += [f"## {part.name}", "", f"Here: {part.about}.", ""]
        lines += ["| measure | ryla_tasks | plain Celery | ratio |", "|---|---:|---:|---:|"]
        for one in part.measures:
            ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
            lines.append(f"| {one.what}, {one.unit} | {_number(one.ours)} | {_number(one.plain)} | {ratio} |")
        lines.append("")
        for mark in part.marks:
            sign = "at most" if mark.at_most else "at least"
            verdict = "met" if mark.passed else "**missed**"
            lines.append(f"- Mark: {mark.what}, {sign} {mark.limit:g}: {_number(mark.value)}, {verdict}.")
        lines += [""] if part.marks else []
    return "\n".join(lines).rstrip() + "\n"


_INTRODUCTION = """
# Benchmarks

`make bench` measures ryla_tasks beside plain Celery and prints these tables. It starts all that it needs on loopback:
an embedded Redis, the simulator, and Celery worker processes. `make bench ARGS="--markdown docs/benchmarks.md"` writes
this page.

The plain side is `benchmarks/plain_celery.py`: one task that submits, and then sends itself again with a countdown for
each poll, with a pooled `requests.Session`, PROGRESS by `update_state`, late acknowledgement and events. Both sides
have the threads pool with four slots, and run on the same machine in the same run. CPU time is that of the process
measured (user and system, all threads), because other processes share the machine; the times of a call are wall times
and carry the noise of the machine.

Plain Celery has no limits for the whole fleet, no fenced claims, no record of the job with its events, and no recovery
of lost messages; ours has them in all that is measured here.
"""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
