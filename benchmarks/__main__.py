"""`python -m benchmarks`: measure, and print tables and JSON."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.parts import PARTS
from benchmarks.report import Part, show, to_json
from benchmarks.system import System


@click.command()
@click.option("--only", multiple=True, type=click.Choice([*PARTS]), help="A part to run; may be repeated.")
@click.option("--quick", is_flag=True, help="Fewer jobs and rounds: about two minutes in all.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the results here.")
@click.option("--check", is_flag=True, help="Exit with 1 where a mark is missed.")
def main(only: tuple[str, ...], quick: bool, json_file: Path | None, check: bool) -> None:
    """Measure ryla_tasks beside plain Celery. Everything that is needed is started here, on loopback."""
    console = Console()
    found: list[Part] = []
    with System() as system:
        for name in only or PARTS:
            for part in PARTS[name](system, quick=quick):
                found.append(part)
                show(console, part)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(to_json(found) + "\n", encoding="utf-8")
    missed = [mark for part in found for mark in part.marks if not mark.passed]
    if missed:
        console.print(f"{len(missed)} mark(s) missed", style="red")
    sys.exit(1 if check and missed else 0)


if __name__ == "__main__":
    main()
