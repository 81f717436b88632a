"""`ryla watch`: follow a job until it ends."""

from __future__ import annotations

from pathlib import Path

import click

from ryla_tasks.cli.exits import Exit
from ryla_tasks.cli.output import console, json_option, print_json_line

__all__ = ["watch"]


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Watch no longer than this.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write the job's files here.")
@json_option
def watch(job_id: str, timeout: float | None, out: Path | None, as_json: bool) -> None:
    """Watch the job ID until it ends, from its beginning on.

    With --json each event is a line, and the last line, of type "end", is the job as `ryla show` shows it. Ctrl-C
    stops the watching, not the job.
    """
    from ryla_tasks.cli.following import end_code, ended_document, follow, print_end, save_files
    from ryla_tasks.cli.views import view_for
    from ryla_tasks.job import Job

    job = Job.get(job_id)
    with view_for(as_json=as_json) as view:
        record = follow(job, view, timeout=timeout)
    code = end_code(record)
    files = save_files(job, out) if out is not None and code is Exit.OK else []
    if as_json:
        print_json_line({"type": "end", **ended_document(record, files)})
    else:
        print_end(console(), record, files)
    click.get_current_context().exit(code)
