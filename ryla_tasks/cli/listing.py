"""`ryla list`: jobs, newest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ryla_tasks.cli.output import console, json_option, plain, print_json
from ryla_tasks.jobs.states import State

if TYPE_CHECKING:
    from ryla_tasks.jobs.record import JobRecord

__all__ = ["list_"]


@click.command("list")
@click.option("--user", "user_id", help="Only this user's.")
@click.option("--kind", help="Only this kind: image, lora or special.")
@click.option("--status", type=click.Choice([str(state) for state in State]), help="Only those in this state.")
@click.option("--endpoint", help="Only those of this endpoint, by its name in the settings.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@json_option
def list_(
    user_id: str | None, kind: str | None, status: str | None, endpoint: str | None, limit: int, as_json: bool
) -> None:
    """List jobs that fit all that is given, newest first."""
    from ryla_tasks.job import list_jobs

    records = list_jobs(user_id=user_id, kind=kind, status=status, endpoint=endpoint, limit=limit)
    if as_json:
        from ryla_tasks.cli.documents import job_document

        print_json([job_document(record, time.time()) for record in records])
        return
    _print_table(records)


def _print_table(records: list[JobRecord]) -> None:
    from rich.table import Table

    from ryla_tasks.cli.documents import local_time
    from ryla_tasks.jobs.progress import progress_of

    out = console()
    if not records:
        out.print("No jobs.")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("ID", "Status", "%", "Endpoint", "User", "Created", "What"):
        # Whatever the width of the terminal, an id that is cut off is of no use.
        table.add_column(name, min_width=36 if name == "ID" else None, overflow="fold")
    now = time.time()
    for record in records:
        progress = progress_of(record, now)
        table.add_row(
            record.job_id,
            str(record.state),
            f"{progress.percent:.0f}",
            record.spec.endpoint,
            plain(record.spec.user_id) or "-",
            local_time(record.created),
            record.spec.label or record.spec.task,
        )
    out.print(table)
