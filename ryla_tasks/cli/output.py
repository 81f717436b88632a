"""What commands print: JSON documents, or rich text on a console."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console

__all__ = ["console", "json_option", "plain", "print_json", "print_json_line"]

_WIDTH_OF_A_PIPE = 200

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")


def console() -> Console:
    """Standard output for people. Nothing in a prompt or a message is taken for markup."""
    out = Console(markup=False, emoji=False, highlight=False)
    if not out.is_terminal:
        # A pipe or a log has no width: rich's guess of 80 would break tables for no reason.
        out.width = _WIDTH_OF_A_PIPE
    return out


def plain(text: str) -> str:
    """A text of a user's on one line, without signs that a terminal would obey."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def print_json(document: Any) -> None:
    """One document, readable."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def print_json_line(document: Any, *, err: bool = False) -> None:
    """One document of several, on a line of its own, at once; `err` is for standard error."""
    click.echo(json.dumps(document, ensure_ascii=False, default=str), err=err)
