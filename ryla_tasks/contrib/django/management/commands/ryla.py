"""`manage.py ryla ...`: the `ryla` command with the project's settings, and workers that have the project."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

__all__ = ["Command", "run_ryla", "show_the_way", "without_django_options"]

#: Commands of `ryla` that start a Celery worker: it has to have the project, or receivers would never hear of an end.
_WORKER = {"app": "ryla_tasks.contrib.django.worker_app"}


class Command(BaseCommand):
    """Passes everything on. It takes no options of its own: `manage.py ryla list --help` is `ryla list --help`."""

    help = "Run, show, list and cancel jobs, and whatever else `ryla` does, with this project's settings."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Take the arguments as they are."""
        self._called_from_command_line = True
        run_ryla(without_django_options(argv[2:]))

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_args: Any, arguments: list[str], **_options: Any) -> None:
        """For `call_command`."""
        run_ryla(arguments)


def run_ryla(arguments: list[str]) -> None:
    """Run a command of `ryla` and exit as it does."""
    from ryla_tasks.cli.group import cli

    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise CommandError("DJANGO_SETTINGS_MODULE is not set: workers would not know the project.")
    show_the_way()
    cli(args=arguments, prog_name="manage.py ryla", default_map={"worker": _WORKER, "dev": {**_WORKER, "no_web": True}})


def without_django_options(arguments: list[str]) -> list[str]:
    """The arguments without those that Django has taken already."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    return parser.parse_known_args(arguments)[1]


def show_the_way() -> None:
    """Child processes find the project's modules where this process does, wherever it was started."""
    here = [entry for entry in sys.path[:1] if entry]
    paths = [*here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
