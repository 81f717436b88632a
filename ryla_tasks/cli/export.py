"""`ryla export`: all jobs with their events and results, as lines of JSON or rows of CSV, and their files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ryla_tasks.cli.exits import Exit, Failure
from ryla_tasks.cli.moments import MOMENT
from ryla_tasks.cli.output import json_option, print_json_line
from ryla_tasks.jobs.states import State

if TYPE_CHECKING:
    from ryla_tasks.jobs.record import JobRecord

__all__ = ["export"]


@click.command()
@click.option("--since", type=MOMENT, help="Only jobs created since then: 30m, 1h, 7d ago, or 2026-01-31T12:00.")
@click.option("--until", type=MOMENT, help="Only jobs created until then.")
@click.option("--kind", help="Only this kind: image, lora or special.")
@click.option("--user", "user_id", help="Only this user's.")
@click.option("--endpoint", help="Only those of this endpoint, by its name in the settings.")
@click.option("--status", type=click.Choice([str(state) for state in State]), help="Only those in this state.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="A JSON document a line with all of a job, or a row a job with the most of it.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.  [default: standard output]"
)
@click.option(
    "--files",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also copy the files of the jobs into this folder, under their keys.",
)
@json_option
def export(
    since: float | None,
    until: float | None,
    kind: str | None,
    user_id: str | None,
    endpoint: str | None,
    status: str | None,
    form: str,
    out: Path | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Write out jobs, newest first, with all that is kept of them; the cells of sheets too.

    Jobs are read from Redis a page at a time, while they go on. Inputs, and so prompts, are left out; URLs in results
    are cut to their hosts, and what looks like a key is hidden. At the end a line on standard error says how many there
    were, with --json as a document. Exit code 1 where a file of a job is gone.
    """
    from ryla_tasks.cli.exporting import Files, write_csv, write_jsonl
    from ryla_tasks.errors import InvalidJob

    if since is not None and until is not None and since > until:
        raise InvalidJob("until: lies before since", field="until")
    write = write_csv if form == "csv" else write_jsonl
    files = Files(folder) if folder is not None else None
    records = _records(since, until, kind, user_id, endpoint, State(status) if status else None)
    try:
        if out is None:
            count = write(sys.stdout, records, files)
        else:
            with out.open("w", encoding="utf-8", newline="") as stream:
                count = write(stream, records, files)
    except OSError as error:
        raise Failure(f"{error.filename or out or 'standard output'}: {error.strerror}", Exit.FAILED) from error
    _report(count, files, as_json=as_json, err=sys.stderr)
    click.get_current_context().exit(Exit.FAILED if files is not None and files.missing else Exit.OK)


def _records(
    since: float | None,
    until: float | None,
    kind: str | None,
    user_id: str | None,
    endpoint: str | None,
    state: State | None,
) -> Iterator[JobRecord]:
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.store.listing import list_records
    from ryla_tasks.tasks.runtime import runtime_of

    store = runtime_of(current_app()).store
    return list_records(
        store.client,
        store.prefix,
        user_id=user_id,
        kind=kind,
        state=state,
        endpoint=endpoint,
        since=since,
        until=until,
    )


def _report(count: int, files: object, *, as_json: bool, err: TextIO) -> None:
    from ryla_tasks.cli.exporting import Files

    copied, missing = (files.copied, files.missing) if isinstance(files, Files) else (0, [])
    if as_json:
        print_json_line({"type": "end", "jobs": count, "files": copied, "missing": missing}, err=True)
        return
    for key in missing:
        click.echo(f"gone: {key}", file=err)
    told = f", {copied} {'file' if copied == 1 else 'files'}" if isinstance(files, Files) else ""
    click.echo(f"{count} {'job' if count == 1 else 'jobs'}{told}", file=err)
