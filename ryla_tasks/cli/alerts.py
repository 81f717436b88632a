"""`ryla alerts`: the latest alerts, and a test of where they go."""

from __future__ import annotations

from typing import Any

import click

from ryla_tasks.cli.exits import Exit, Failure
from ryla_tasks.cli.output import console, json_option, print_json

__all__ = ["alerts"]


@click.group(invoke_without_command=True)
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@json_option
@click.pass_context
def alerts(ctx: click.Context, limit: int, as_json: bool) -> None:
    """Show the latest alerts, newest first. `ryla alerts test` sends one to each service of RYLA_ALERT_URLS."""
    if ctx.invoked_subcommand is None:
        _latest(limit, as_json=as_json)


@alerts.command()
@json_option
def test(as_json: bool) -> None:
    """Send a test to each service of RYLA_ALERT_URLS, and say of each whether it was accepted.

    It goes past the hourly limit and is no entry of the list. The exit code is 1 where one was not accepted.
    """
    import time

    from ryla_tasks.alerts import Alert
    from ryla_tasks.settings import get_settings
    from ryla_tasks.store.events import Event

    urls = get_settings().alert_urls
    if not urls:
        raise Failure("RYLA_ALERT_URLS is not set: alerts go nowhere but to `ryla alerts`.", Exit.CONFIGURATION)
    from ryla_tasks.alerts.services import services_of

    alert = Alert.of(Event(f"{round(time.time() * 1000)}-test", "test", {}))
    rows: list[dict[str, Any]] = [
        {"service": service.name, "accepted": service.send(alert.title, alert.body, alert.severity)}
        for service in services_of(urls)
    ]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            console().print(f"{row['service']}: {'accepted' if row['accepted'] else 'NOT accepted'}")
    click.get_current_context().exit(Exit.OK if all(row["accepted"] for row in rows) else Exit.FAILED)


def _latest(limit: int, *, as_json: bool) -> None:
    from ryla_tasks.alerts import Alert
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.tasks.runtime import runtime_of

    found = [Alert.of(event) for event in runtime_of(current_app()).targets.alerts(limit)]
    if as_json:
        print_json([alert.to_json() for alert in found])
        return
    out = console()
    for alert in found:
        out.print(f"{_time(alert.at)}  {alert.severity:8}  {alert.sentence}")
        out.print(f"{'':29}{alert.advice}", soft_wrap=True)
    if not found:
        out.print("There are no alerts.")


def _time(at: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(at, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
