"""`ryla show`: all that is kept of a job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ryla_tasks.cli.output import console, json_option, print_json

if TYPE_CHECKING:
    from ryla_tasks.job import Cell, Job
    from ryla_tasks.jobs.record import JobRecord

__all__ = ["show"]


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--events", is_flag=True, help="Also show what happened to it.")
@json_option
def show(job_id: str, events: bool, as_json: bool) -> None:
    """Show the job ID: where it stands, its times, attempts, remote id, error and files."""
    from ryla_tasks.cli.documents import cell_document, event_document, job_document
    from ryla_tasks.job import Job

    job = Job.get(job_id)
    record = job.record
    cells = job.cells
    if as_json:
        document = job_document(record, time.time())
        if cells:
            document["cells"] = [cell_document(cell) for cell in cells]
        if events:
            document["events"] = [event_document(event) for event in job.events()]
        print_json(document)
        return
    _print_record(record)
    if cells:
        _print_cells(cells)
    if events:
        _print_events(job)


def _print_record(record: JobRecord) -> None:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _rows(record):
        if value not in ("", None, "-"):
            grid.add_row(name, str(value))
    console().print(grid)


def _print_cells(cells: list[Cell]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("Cell", "Status", "%", "Job", "Error"):
        table.add_column(heading, overflow="fold")
    for cell in cells:
        error = f"{cell.error}" if cell.error is not None else ""
        table.add_row(cell.name, str(cell.status), f"{cell.percent:.0f}", cell.job_id or "", error)
    out = console()
    out.print()
    out.print(table)


def _rows(record: JobRecord) -> list[tuple[str, Any]]:
    from ryla_tasks.cli.documents import error_document, local_time
    from ryla_tasks.jobs.falling_back import lines_of
    from ryla_tasks.jobs.progress import progress_of

    spec, progress = record.spec, progress_of(record, time.time())
    result = (record.ending or {}).get("result", {})
    error = error_document(record) or {}
    timings = result.get("timings", {})
    rows: list[tuple[str, Any]] = [
        ("Job", record.job_id),
        ("Status", f"{record.state}  {progress.percent:g} %  {progress.message}"),
        ("Task", f"{spec.task}  {spec.label}".strip()),
        ("Endpoint", f"{spec.endpoint}  {record.target}".strip()),
        ("Remote job", record.remote_id),
        ("User", spec.user_id),
        ("Tags", ", ".join(spec.tags)),
        ("Priority", spec.priority),
        ("Attempt", f"{record.attempt} (retries {record.retries} of {spec.max_retries})"),
        *((f"Fallback, {one['kind']}", f"{one['from']} -> {one['to']} ({one['why']})") for one in lines_of(record)),
        ("Created", local_time(record.created)),
        ("Submitted", local_time(record.submitted)),
        ("Ended", local_time(record.ended)),
        ("Cancel", record.cancel),
        ("Same job as", record.alias_of),
        ("Retry of", spec.retry_of or spec.resumes),
        ("Error", f"{error['type']}: {error['message']}" if error else ""),
        ("Details", error.get("details")),
        ("Seed", result.get("seed")),
        ("On the GPU", _seconds(timings.get("executed_s"))),
        ("In all", _seconds(timings.get("total_s"))),
        ("Cost, about", _cost(record)),
    ]
    artifacts = result.get("artifacts", ())
    return rows + [("File", f"{one['key']}  {one['content_type']}  {one['bytes']} bytes") for one in artifacts]


def _cost(record: JobRecord) -> str:
    """What the job has cost, and what is set aside for it while it is under way."""
    from ryla_tasks.jobs.cost import so_far
    from ryla_tasks.jobs.money import dollars

    cost = so_far(record, time.time())
    if cost is None:
        return ""
    most = "" if record.spec.max_cost_usd is None else f", at most ${record.spec.max_cost_usd:g}"
    if record.state.ended:
        return f"${cost:.5f}{most}"
    reserved = f", ${dollars(record.money.reserved):.5f} reserved" if record.money.reserved else ""
    return f"${cost:.5f} so far{reserved}{most}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _print_events(job: Job) -> None:
    from ryla_tasks.cli.documents import local_time

    out = console()
    out.print()
    for event in job.events():
        data = event.data
        percent = f"{data['percent']:3.0f} %" if "percent" in data else ""
        out.print(
            f"{local_time(event.at)}  {event.type:<10}  {data.get('phase', ''):<10}  {percent:>5}  "
            f"{data.get('message', '')}".rstrip(),
            soft_wrap=True,
        )
