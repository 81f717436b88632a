"""`ryla simulate`: a simulated RunPod as a process of its own."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..simulator import Simulator, SimulatorConfig

__all__ = ["simulate"]


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file of a SimulatorConfig; the other options come on top.",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port; 0 takes a free one.  [default: 8008]")
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="ID=PROGRAM",
    help="An endpoint and its program (image, echo, or joined: real workers come by themselves); may be repeated."
    "  [default: image=image]",
)
@click.option("--key", "keys", multiple=True, help="A bearer key to accept; may be repeated.  [default: simulated-key]")
@click.option("--time-scale", type=float, help="How many times faster than real time passes.  [default: 1]")
@click.option("--seed", type=int, help="Seed of faults and worker names.  [default: 0]")
@click.option(
    "--faults",
    "faults_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file of a fault programme: what goes wrong, and when (docs/simulator.md).",
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON when ready.")
def simulate(config_file: Path | None, faults_file: Path | None, as_json: bool, **options: Any) -> None:
    """Run a simulated RunPod serverless API: no GPU, no cost, pictures marked as simulated.

    Prints its address when it is ready, and stops on Ctrl-C or SIGTERM. Nothing guards its control API: keep it on
    an address that others cannot reach.
    """
    try:
        from ..simulator import Simulator, read_programme
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    try:
        config = _configuration(config_file, options)
        if faults_file is not None:
            config = config.model_copy(update={"programme": read_programme(faults_file)})
        simulator = Simulator(config)
        asyncio.run(_serve(simulator, as_json=as_json))
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


def _configuration(config_file: Path | None, options: Mapping[str, Any]) -> SimulatorConfig:
    from ..simulator import SimulatorConfig

    data: dict[str, Any] = {"port": 8008}
    if config_file is not None:
        try:
            loaded = json.loads(config_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigurationError(f"{config_file} is not JSON: {error}", "--config") from error
        if not isinstance(loaded, dict):
            raise ConfigurationError(f"{config_file} is not a JSON object", "--config")
        data |= loaded
    data |= {name: options[name] for name in ("host", "port", "time_scale", "seed") if options[name] is not None}
    if options["keys"]:
        data["keys"] = options["keys"]
    asked = [_endpoint(text) for text in options["endpoints"]]
    data["endpoints"] = [*data.get("endpoints", ()), *asked] or [{"endpoint_id": "image"}]
    try:
        return SimulatorConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{field}: {first['msg']}" if field else first["msg"], field) from error


def _endpoint(text: str) -> dict[str, Any]:
    endpoint_id, _, program = text.partition("=")
    if program == "joined":
        return {"endpoint_id": endpoint_id, "joined": True}
    return {"endpoint_id": endpoint_id, "program": program or "image"}


async def _serve(simulator: Simulator, *, as_json: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopping.set)
        except NotImplementedError:  # Windows: Ctrl-C arrives as KeyboardInterrupt
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopping.set))
    await simulator.start()
    _announce(simulator, as_json=as_json)
    await stopping.wait()
    await simulator.stop()


def _announce(simulator: Simulator, *, as_json: bool) -> None:
    from ..simulator.joining import worker_environment

    base_url = f"{simulator.url}/v2"
    programs = {one.config.endpoint_id: one.config.runs for one in simulator.endpoints.values()}
    join = {
        one.config.endpoint_id: worker_environment(base_url, one.config, "gpu-1", simulator.config.keys[0])
        for one in simulator.endpoints.values()
        if one.config.joined
    }
    if as_json:
        ready = {"url": simulator.url, "base_url": base_url, "endpoints": programs}
        click.echo(json.dumps({**ready, "join": join} if join else ready))
        return
    click.echo(f"Simulated RunPod at {base_url}  (set RUNPOD_ENDPOINT_BASE_URL to this)")
    for endpoint_id, program in programs.items():
        click.echo(f"  endpoint {endpoint_id}: {program}")
    for endpoint_id, variables in join.items():
        click.echo(
            f"A worker on the runpod SDK joins {endpoint_id} with these (each worker has a RUNPOD_POD_ID of its own):"
        )
        for name, value in variables.items():
            click.echo(f"  export {name}={shlex.quote(value)}")
    click.echo(f"Control and counters at {simulator.url}/simulator/endpoints. Ctrl-C stops it.")
