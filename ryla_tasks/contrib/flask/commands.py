"""`flask ryla-worker`: a Celery worker that has the app, so that its receivers hear of ends; `flask ryla`: the rest."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from flask import Flask

from ryla_tasks.cli.group import CommandGroup
from ryla_tasks.cli.worker import LEVELS, keep_running, worker_arguments

__all__ = ["add_commands"]

#: Set for the worker that a supervisor of ours has started: it is the worker itself.
_SUPERVISED = "RYLA_UNDER_SUPERVISOR"

#: Commands that are about the jobs of this app, not about a system on this machine.
_OTHERS = ("run", "watch", "show", "list", "cancel", "endpoints", "workflows", "clean")


class JobCommands(CommandGroup):
    """The commands of `ryla` that work with the app's settings."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in super().list_commands(ctx) if name in _OTHERS]


@click.group("ryla", cls=JobCommands)
def jobs() -> None:
    """Show, run and cancel jobs, with the settings of the app."""


@click.command("ryla-worker", context_settings={"ignore_unknown_options": True})
@click.option(
    "--concurrency", "-c", type=click.IntRange(2, 256), help="Threads.  [default: RYLA_WORKER_CONCURRENCY, 4]"
)
@click.option("--queues", "-Q", default="", help="The queues to serve, with commas between.  [default: all]")
@click.option(
    "--loglevel", "-l", type=click.Choice(LEVELS, case_sensitive=False), help="[default: RYLA_LOG_LEVEL, INFO]"
)
@click.option("--name", "-n", help="The worker's name; %h is the host's.  [default: ryla-<pid>@%h]")
@click.option(
    "--supervise/--no-supervise",
    default=True,
    show_default=True,
    help="Start the worker again when it ends by itself, or be it.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def worker(
    concurrency: int | None,
    queues: str,
    loglevel: str | None,
    name: str | None,
    supervise: bool,
    options: tuple[str, ...],
) -> None:
    """Run a Celery worker for jobs, with this app loaded, and start it again when it ends by itself.

    Receivers of job_ended are called in it, within the app's context. OPTIONS are further ones of `celery worker`.
    """
    if supervise and _SUPERVISED not in os.environ:
        # The same command line, whichever way Flask was started.
        command = [sys.executable, *sys.orig_argv[1:]]
        code = keep_running(command, env={**os.environ, _SUPERVISED: "1"})
        click.get_current_context().exit(code)
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.settings import get_settings

    settings, celery = get_settings(), current_app()
    arguments = worker_arguments(
        concurrency or settings.worker_concurrency,
        (loglevel or settings.log_level).upper(),
        queues=queues or ",".join(_all_queues(celery)),
        name=name or f"ryla-{os.getpid()}@%h",
    )
    click.get_current_context().exit(celery.worker_main([*arguments, *options]) or 0)


def _all_queues(celery: Any) -> list[str]:
    """The queues of a Celery app, and ours, which a host's own may not name."""
    from ryla_tasks.tasks.routes import queue_names

    return list(dict.fromkeys([*celery.amqp.queues, *queue_names()]))


def add_commands(app: Flask) -> None:
    """Give an app these commands."""
    app.cli.add_command(worker)
    app.cli.add_command(jobs)
