"""`ryla dev`: all that a web app needs around it, on this machine, until Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ryla_tasks.cli.output import console, json_option, print_json_line

if TYPE_CHECKING:
    from ryla_tasks.cli.local import LocalRunPod
    from ryla_tasks.cli.supervisor import Program
    from ryla_tasks.cli.web import FlaskApp

__all__ = ["dev"]

_STOP_S = 15.0

#: RunPod's cold starts take longer; a developer who works on that sets the simulator accordingly.
_SIMULATED = {"cold_start_s": 4.0, "run_s": 6.0}
_USUAL_SIMULATOR, _USUAL_FLOWER, _USUAL_WEB = 8008, 5555, 5000
_COLOURS = {"simulator": "cyan", "worker": "green", "flower": "magenta", "web": "blue", "dev": "yellow"}
_PORT = click.IntRange(1, 65_535)


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("ryla-dev"),
    show_default=True,
    help="The folder for Redis's data, the files of jobs, and the settings for a web app.",
)
@click.option("--redis-port", type=_PORT, help="Redis's port.  [default: a free one]")
@click.option("--simulator-port", type=_PORT, help="The simulated RunPod's port.  [default: 8008, or a free one]")
@click.option("--flower-port", type=_PORT, help="Flower's port.  [default: 5555, or a free one]")
@click.option("--flower/--no-flower", "with_flower", default=True, show_default=True, help="Run Flower too.")
@click.option(
    "--web",
    metavar="MODULE:APP",
    help="A Flask app to run, with ryla_tasks.contrib.flask in it.  [default: the gallery of the examples, if at hand]",
)
@click.option("--no-web", is_flag=True, help="Run no Flask app.")
@click.option("--web-port", type=_PORT, help="The Flask app's port.  [default: 5000, or a free one]")
@click.option("--app", "-A", help="Your own Celery app, with ryla_tasks installed.  [default: the one of ryla_tasks]")
@click.option("--concurrency", "-c", type=click.IntRange(2, 256), default=4, show_default=True, help="Worker threads.")
@json_option
def dev(
    data: Path,
    redis_port: int | None,
    simulator_port: int | None,
    flower_port: int | None,
    with_flower: bool,
    web: str | None,
    no_web: bool,
    web_port: int | None,
    app: str | None,
    concurrency: int,
    as_json: bool,
) -> None:
    """Run Redis, a simulated RunPod, a Celery worker, Flower and a Flask app together until Ctrl-C.

    Prints where they are, and the settings that make a web app, or `ryla run` in another terminal, use them; these
    are also written to the file `env` in the data folder. With a Flask app, the worker is one that has it. A worker
    that ends by itself is started again; if another part ends, all end, with exit code 1. With --json each line is a
    document: first of type "ready", then of type "log".
    """
    from ryla_tasks.cli.local import LocalRunPod, environment_file, local_settings, port_or_free, without_settings
    from ryla_tasks.cli.supervisor import Supervisor
    from ryla_tasks.embedded import RedisServer

    if web and (no_web or app):
        raise click.UsageError(f"--web and {'--no-web' if no_web else '--app'} exclude each other")
    data = data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    log = _Log(as_json=as_json)
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(data / "redis", port=redis_port))
        runpod = LocalRunPod(
            data, _endpoint_names(), port=port_or_free(simulator_port, _USUAL_SIMULATOR), options=_SIMULATED
        )
        site = None if no_web or app else _site(web, port_or_free(web_port, _USUAL_WEB), data)
        settings = local_settings(redis.url, runpod, data / "artifacts") | (site.settings if site else {})
        env = {**without_settings(os.environ, places_only=True), **settings, "PYTHONUNBUFFERED": "1"}
        (data / "env").write_text(environment_file(settings))
        port = port_or_free(flower_port, _USUAL_FLOWER) if with_flower and _flower_is_installed(log) else None
        flower = f"http://127.0.0.1:{port}" if port else ""
        place = _Place(redis.url, runpod.url, flower, site.url if site else "", data, settings)
        supervisor = Supervisor(
            _programs(log, env, runpod, app, site, concurrency, _flower_arguments(data, port)),
            say=lambda text: log.write("dev", text),
            check=lambda: "" if redis.running else f"Redis has ended:\n{redis.log_tail()}",
            patience_s=_STOP_S,
        )
        code = supervisor.run(lambda pids: log.ready(place, {"redis": redis.pid or 0, **pids}))
    log.write("dev", "all are stopped")
    click.get_current_context().exit(code)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where everything is."""

    redis: str
    runpod: str
    flower: str
    web: str
    data: Path
    settings: Mapping[str, str]


def _endpoint_names() -> list[str]:
    """The endpoints that the simulated RunPod has: the usual ones, and those of the user's settings."""
    from ryla_tasks.settings import get_settings

    return list(dict.fromkeys(["image", "lora", "special", *get_settings().endpoints]))


def _site(web: str | None, port: int, data: Path) -> FlaskApp | None:
    from ryla_tasks.cli.web import FlaskApp, example_app

    return FlaskApp(web, port) if web else example_app(port, data)


def _flower_is_installed(log: _Log) -> bool:
    if importlib.util.find_spec("flower") is not None:
        return True
    log.write("dev", "Flower is not installed: pip install 'ryla-tasks[flower]'")
    return False


def _flower_arguments(data: Path, port: int | None) -> list[str]:
    """How Flower runs: on the loopback address alone, with rows that show how jobs stand; nothing where it does not."""
    if port is None:
        return []
    config = data / "flowerconfig.py"
    config.write_text(
        "from ryla_tasks.flower import flower_options, format_task\n\nglobals().update(flower_options())\n"
    )
    return ["--address=127.0.0.1", f"--port={port}", f"--conf={config}", f"--db={data / 'flower.db'}"]


def _programs(
    log: _Log,
    env: Mapping[str, str],
    runpod: LocalRunPod,
    app: str | None,
    site: FlaskApp | None,
    concurrency: int,
    flower: list[str],
) -> list[Program]:
    from ryla_tasks.cli.local import celery_command
    from ryla_tasks.cli.supervisor import Program
    from ryla_tasks.cli.worker import OUR_APP, worker_arguments

    programs = [Program("simulator", runpod.command, env, on_line=log.writer("simulator"))]
    if site is not None:
        env = {**env, **site.env}
        worker = site.worker_command(f"--concurrency={concurrency}", "--loglevel=INFO", "--name=dev@%h")
        programs.append(Program("web", site.command, env, on_line=log.writer("web")))
    else:
        worker = celery_command(app or OUR_APP, *worker_arguments(concurrency, "INFO", name="dev@%h"))
    programs.append(Program("worker", worker, env, kept=True, on_line=log.writer("worker")))
    if flower:
        command = celery_command(app or OUR_APP, "flower", *flower)
        programs.append(Program("flower", command, env, on_line=log.writer("flower")))
    return programs


class _Log:
    """What all of them say, each line with its process's name in its colour; or as JSON lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def writer(self, name: str) -> Callable[[str], None]:
        """Takes the lines of one process."""
        return partial(self.write, name)

    def write(self, name: str, text: str) -> None:
        for line in text.splitlines():
            if self._as_json:
                print_json_line({"type": "log", "process": name, "line": line})
            else:
                click.echo(f"{click.style(f'{name:<9} |', fg=_COLOURS[name])} {line}")

    def ready(self, place: _Place, pids: Mapping[str, int]) -> None:
        """Say where everything is."""
        if self._as_json:
            urls = {name: getattr(place, name) or None for name in ("redis", "runpod", "flower", "web")}
            where = {"urls": urls, "env": dict(place.settings), "data": str(place.data)}
            print_json_line({"type": "ready", **where, "pids": dict(pids)})
            return
        out = console()
        out.print(f"\nRedis      {place.redis}", soft_wrap=True)
        out.print(f"RunPod     {place.runpod}  (simulated)", soft_wrap=True)
        out.print(f"Flower     {place.flower or 'not running'}", soft_wrap=True)
        out.print(f"Web app    {place.web or 'not running'}", soft_wrap=True)
        out.print(f"Data       {place.data}", soft_wrap=True)
        out.print("\nFor your web app, and for ryla run in another terminal:")
        out.print(f"  export RYLA_ENV_FILE={place.data / 'env'}", soft_wrap=True)
        out.print("which holds:")
        for name, value in place.settings.items():
            out.print(f"  {name}='{value}'", soft_wrap=True)
        out.print("\nCtrl-C stops all.\n")
