"""`ryla doctor`: a look over everything that jobs rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ryla_tasks.cli.exits import Exit
from ryla_tasks.cli.output import console, json_option, print_json

if TYPE_CHECKING:
    from ryla_tasks.doctor import Finding

__all__ = ["doctor"]


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look over Redis, settings, endpoints, workers and files, and say what is wrong and what to do.

    It changes nothing, runs no job, and calls Redis, RunPod and the artifact store alone. The exit code is 1 where
    there is a problem; warnings leave it at 0.
    """
    from ryla_tasks.doctor import Level, look_over

    findings = look_over()
    if as_json:
        print_json([one.to_json() for one in findings])
    else:
        _print(findings)
    bad = any(one.level is Level.PROBLEM for one in findings)
    click.get_current_context().exit(Exit.FAILED if bad else Exit.OK)


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    from ryla_tasks.doctor import Level

    out = console()
    styles = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}
    for one in findings:
        out.print(Text.assemble((f"{one.level:8}", styles[one.level]), f" {one.check}: {one.says}"))
        if one.advice:
            out.print(f"{'':9}{one.advice}")
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    out.print()
    out.print(f"{counts[Level.PROBLEM]} problems, {counts[Level.WARNING]} warnings, {counts[Level.OK]} ok.")
