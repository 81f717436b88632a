"""`ryla worker`: a Celery worker with the right pool and flags, kept running."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

import click

from ryla_tasks.cli.local import celery_command
from ryla_tasks.cli.output import json_option, print_json_line

__all__ = ["LEVELS", "OUR_APP", "keep_running", "worker", "worker_arguments"]

OUR_APP = "ryla_tasks"
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"]


@click.command()
@click.option(
    "--concurrency",
    "-c",
    type=click.IntRange(2, 256),
    help="Threads; a job that waits for its GPU holds none.  [default: RYLA_WORKER_CONCURRENCY, 4]",
)
@click.option("--queues", "-Q", default="", help="The queues to serve, with commas between.  [default: all of ours]")
@click.option(
    "--loglevel",
    "-l",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="The least that is logged.  [default: RYLA_LOG_LEVEL, INFO]",
)
@click.option("--name", "-n", help="The worker's name; %h is the host's.  [default: ryla-<pid>@%h]")
@click.option(
    "--app",
    "-A",
    default=OUR_APP,
    show_default=True,
    help="Another Celery app to work for: workers.celery_worker, or one with ryla_tasks installed.",
)
@click.option(
    "--supervise/--no-supervise",
    default=True,
    show_default=True,
    help="Start the worker again when it ends by itself, or become it.",
)
@json_option
def worker(
    concurrency: int | None,
    queues: str,
    loglevel: str | None,
    name: str | None,
    app: str,
    supervise: bool,
    as_json: bool,
) -> None:
    """Run a Celery worker for jobs, and start it again when it ends by itself.

    To scale out, start more of these. SIGTERM or Ctrl-C lets it finish its steps, which takes seconds, because jobs
    go on at RunPod without it; a second one makes it give its messages back and end at once.

    Where something else restarts what has ended (systemd, Kubernetes), --no-supervise saves a process. With --json,
    and with RYLA_LOG_FORMAT=json, what the supervisor says comes as JSON lines on standard error.
    """
    from ryla_tasks.settings import get_settings

    settings = get_settings()
    arguments = worker_arguments(
        concurrency or settings.worker_concurrency,
        (loglevel or settings.log_level).upper(),
        queues=queues,
        name=name or f"ryla-{os.getpid()}@%h",
    )
    command = celery_command(app, *arguments)
    if not supervise:
        os.execv(sys.executable, command)  # noqa: S606
    click.get_current_context().exit(keep_running(command, as_json=as_json))


def keep_running(command: Sequence[str], *, env: Mapping[str, str] | None = None, as_json: bool = False) -> int:
    """Run a worker's command until it is to stop, and start it again when it ends by itself. The exit code."""
    from ryla_tasks.cli.supervisor import Program, Supervisor
    from ryla_tasks.settings import get_settings

    say = _teller(as_json=as_json or get_settings().log_format == "json")
    return Supervisor([Program("worker", command, env, kept=True)], say=say).run()


def worker_arguments(concurrency: int, loglevel: str, *, queues: str = "", name: str) -> list[str]:
    """The arguments of `celery -A APP`.

    Threads, because the work is waiting for the network. No gossip: nobody listens, and each event costs all workers.
    Mingle stays: a new worker hears of revokes by it. Heartbeats stay, for Flower.
    """
    return [
        "worker",
        "--pool=threads",
        f"--concurrency={concurrency}",
        *([f"--queues={queues}"] if queues else []),
        f"--loglevel={loglevel}",
        f"--hostname={name}",
        "--without-gossip",
    ]


def _teller(*, as_json: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if as_json:
            print_json_line({"type": "supervisor", "message": text}, err=True)
        else:
            click.echo(f"ryla worker: {text}", err=True)

    return say
