"""`python -m benchmarks`: measure, and print tables and JSON."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.parts import PARTS
from benchmarks.report import Part, show, to_json, to_markdown
from benchmarks.system import System


@click.command()
@click.option("--only", multiple=True, type=click.Choice([*PARTS]), help="A part to run; may be repeated.")
@click.option("--quick", is_flag=True, help="Fewer jobs and rounds.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the results here.")
@click.option(
    "--markdown", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page of tables here."
)
@click.option("--check", is_flag=True, help="Exit with 1 where a mark is missed.")
def main(only: tuple[str, ...], quick: bool, json_file: Path | None, page: Path | None, check: bool) -> None:
    """Measure ryla_tasks beside plain Celery. Everything that is needed is started here, on loopback."""
    console = Console()
    found: list[Part] = []
    with System() as system:
        for name in only or PARTS:
            for part in PARTS[name](system, quick=quick):
                found.append(part)
                show(console, part)
    for file, text in ((json_file, to_json(found) + "\n"), (page, to_markdown(found, quick=quick))):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    missed = [mark for part in found for mark in part.marks if not mark.passed]
    if missed:
        console.print(f"{len(missed)} mark(s) missed", style="red")
    sys.exit(1 if check and missed else 0)


if __name__ == "__main__":
    main()
