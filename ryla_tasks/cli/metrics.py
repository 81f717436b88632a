"""`ryla metrics`: the Prometheus exporter."""

from __future__ import annotations

import signal
import threading
from typing import Any

import click

from ryla_tasks.cli.exits import Exit, Failure
from ryla_tasks.cli.output import json_option, print_json_line

__all__ = ["metrics"]

#: Between 9100 and 9999 all ports are given to exporters of others: see Prometheus's wiki, "Default port allocations".
PORT = 19808


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--once", is_flag=True, help="Print the metrics once, in Prometheus's text format, and end.")
@json_option
def metrics(address: str, port: int, once: bool, as_json: bool) -> None:
    """Tell Prometheus what the whole fleet does.

    It reads Redis, where each thing is counted once, so one of these is enough for all workers; a second one gives the
    same numbers. Needs the settings of Redis and of the endpoints, and no API key. While Redis is away there is
    ryla_up 0. Nothing guards it: keep it on an address that others cannot reach. With --json the line that says where
    it listens is JSON, and so is that of --once: the samples, one a line.
    """
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.logs.setup import use_format
    from ryla_tasks.metrics.collector import registry_of
    from ryla_tasks.metrics.fleet import looking_at
    from ryla_tasks.metrics.server import server
    from ryla_tasks.tasks.runtime import runtime_of

    registry = registry_of(looking_at(runtime_of(current_app())))
    if once:
        _print(registry, as_json=as_json)
        return
    use_format()
    try:
        serving = server(address, port, registry)
    except OSError as error:
        raise Failure(
            f"Cannot listen on {address} port {port}: {error.strerror or error}", Exit.CONFIGURATION
        ) from error
    url = f"http://{address}:{serving.server_port}/metrics"
    if as_json:
        print_json_line({"type": "ready", "url": url})
    else:
        click.echo(f"Metrics at {url}")
    for number in (signal.SIGINT, signal.SIGTERM):
        # From another thread: shutdown() waits for the loop that this handler interrupts.
        signal.signal(number, lambda *_: threading.Thread(target=serving.shutdown).start())
    with serving:
        serving.serve_forever(poll_interval=0.2)


def _print(registry: Any, *, as_json: bool) -> None:
    from prometheus_client import generate_latest

    if not as_json:
        click.echo(generate_latest(registry).decode(), nl=False)
        return
    for family in registry.collect():
        for sample in family.samples:
            print_json_line({"name": sample.name, "labels": sample.labels, "value": sample.value})
