"""`ryla endpoints`: the endpoints in the settings, how RunPod says they are, and what their history says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from ryla_tasks.cli.exits import Exit, exit_code
from ryla_tasks.cli.output import console, json_option, print_json

if TYPE_CHECKING:
    from ryla_tasks.settings import Endpoint, Target

__all__ = ["endpoints"]

_AT_ONCE = 8


@click.command()
@click.option("--health/--no-health", default=True, show_default=True, help="Ask RunPod how they are.")
@click.option("--history/--no-history", default=True, show_default=True, help="Show what Redis keeps of their past.")
@click.option("--advise", is_flag=True, help="Weigh a worker that is always on against the cold starts it would save.")
@json_option
def endpoints(health: bool, history: bool, advise: bool, as_json: bool) -> None:
    """Show the endpoints in the settings, each with its targets, and how they are.

    The counts of workers overlap (an idle one is also ready). The history is that of the last 500 attempts at each
    target, the verdict what the workers found when a job last waited there, the spending that of today. Without Redis
    there is none. The exit code is that of the first target that could not be asked.
    """
    from ryla_tasks.cli.history import histories, print_advice, print_histories, with_advice
    from ryla_tasks.cli.spending import print_spending, spending
    from ryla_tasks.settings import get_settings

    pairs = [(endpoint, target) for endpoint in get_settings().endpoints.values() for target in endpoint.targets]
    targets = [target for _, target in pairs]
    if advise:
        advised = with_advice([(endpoint.name, target) for endpoint, target in pairs])
        if as_json:
            print_json(advised)
        else:
            print_advice(advised)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = list(pool.map(_health, targets)) if health else [({}, Exit.OK) for _ in pairs]
    past, problem = histories(targets) if history else ([{} for _ in pairs], "")
    money = spending() if history else {}
    rows = [
        {**_static(endpoint, target), **found, **known, **money.get(endpoint.name, {})}
        for (endpoint, target), (found, _), known in zip(pairs, asked, past, strict=True)
    ]
    if as_json:
        print_json(rows)
    else:
        _print_table(rows, health=health)
        if history and rows:
            print_histories(rows, problem)
            print_spending(money)
    click.get_current_context().exit(next((code for _, code in asked if code), Exit.OK))


def _static(endpoint: Endpoint, target: Target) -> dict[str, Any]:
    return {
        "endpoint": endpoint.name,
        "kind": endpoint.kind,
        "target": target.id,
        "gpu": target.gpu,
        "price_per_s": target.price_per_s,
        "execution_timeout_s": endpoint.execution_timeout_s,
        "deadline_s": endpoint.deadline_s,
    }


def _health(target: Target) -> tuple[dict[str, Any], Exit]:
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.errors import RylaError
    from ryla_tasks.tasks.runtime import runtime_of

    try:
        provider, endpoint_id = runtime_of(current_app()).provider(target.id)
        health = provider.health(endpoint_id)
    except RylaError as error:
        found = {"jobs": None, "workers": None, "error": f"{type(error).__name__}: {error}"}
        return found, exit_code(error) or Exit.FAILED
    return {"jobs": dict(health.jobs), "workers": dict(health.workers), "error": None}, Exit.OK


def _print_table(rows: list[dict[str, Any]], *, health: bool) -> None:
    from rich.table import Table

    out = console()
    if not rows:
        out.print("There are no endpoints in the settings: set RYLA_ENDPOINT_IMAGE to the id of one.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("Endpoint", "Kind", "Target", "GPU", "$ a second", *(["Jobs", "Workers"] if health else [])):
        table.add_column(name, overflow="fold")
    for row in rows:
        price = "-" if row["price_per_s"] is None else f"{row['price_per_s']:g}"
        cells = [row["endpoint"], row["kind"], row["target"], row["gpu"] or "-", price]
        if health:
            cells += [row["error"], ""] if row["error"] else [_counts(row["jobs"]), _counts(row["workers"])]
        table.add_row(*cells)
    out.print(table)


def _counts(counts: dict[str, int]) -> str:
    """The counts that are not nought."""
    return ", ".join(f"{name} {number}" for name, number in counts.items() if number) or "none"
