"""The `ryla` command. Each subcommand is a module of this package, imported when it is asked for."""

from __future__ import annotations

from ryla_tasks.cli.group import cli, main

__all__ = ["cli", "main"]
