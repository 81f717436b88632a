"""The group of all commands: imports them when they are asked for, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from ryla_tasks.cli.exits import EXIT_CODES, Exit, Failure, failure

__all__ = ["cli", "main"]

#: Each command: its module here, its attribute there, and its line in `ryla --help`, which must not need the import.
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo", "demo", "Run one image job end to end, everything on this machine."),
    "dev": ("dev", "dev", "Run Redis, a simulated RunPod, a worker, Flower and a Flask app until Ctrl-C."),
    "worker": ("worker", "worker", "Run a Celery worker for jobs, and keep it running."),
    "run": ("run_tasks", "run", "Enqueue a job, and wait for it."),
    "watch": ("watch", "watch", "Watch a job until it ends."),
    "show": ("show", "show", "Show all that is kept of a job."),
    "list": ("listing", "list_", "List jobs, newest first."),
    "cancel": ("cancel", "cancel", "Ask a job to stop."),
    "retry": ("retry", "retry", "Make jobs again that have ended without a result."),
    "export": ("export", "export", "Write out jobs, with their events, results and files."),
    "endpoints": ("endpoints", "endpoints", "Show the endpoints in the settings, and how they are."),
    "costs": ("costs", "costs", "Show what jobs have cost, by day, user, kind or endpoint."),
    "workflows": ("workflows", "workflows", "List, show, check, render and import workflow templates."),
    "metrics": ("metrics", "metrics", "Tell Prometheus what the whole fleet does."),
    "alerts": ("alerts", "alerts", "Show the latest alerts, or send a test of them."),
    "doctor": ("doctor", "doctor", "Look over Redis, settings, endpoints and workers, and say what is wrong."),
    "clean": ("clean", "clean", "Drop what is left over in Redis, and put back what is astray."),
    "simulate": ("simulate", "simulate", "Run a simulated RunPod alone."),
}


class CommandGroup(click.Group):
    """A group whose commands are imported late, so that `ryla --help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"ryla_tasks.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in EXIT_CODES.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, Failure):
            raise
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)
        except Exception as error:
            known = failure(error)
            if known is None:
                raise
            raise known from error


def _version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"ryla-tasks {version('ryla-tasks')}")
    ctx.exit()


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def cli() -> None:
    """GPU jobs on RunPod serverless endpoints.

    Settings come from the environment or a .env file: RYLA_REDIS_URL, RUNPOD_API_KEY, RYLA_ENDPOINT_IMAGE and so on.
    With --json every command prints JSON on its standard output, and nothing else there. RYLA_DEBUG=1 shows where
    an error came from.
    """


def main() -> None:
    """Run the command line of this process, and exit."""
    if any(not word.isascii() and _is_broken(word) for word in sys.argv[1:]):
        click.echo("Error: an argument is not valid UTF-8", err=True)
        sys.exit(Exit.USAGE)
    cli(prog_name="ryla")


def _is_broken(word: str) -> bool:
    """Whether bytes of it were no text: Python hides them in halves of characters."""
    return any("\ud800" <= sign <= "\udfff" for sign in word)
