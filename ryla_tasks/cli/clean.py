"""`ryla clean`: drop what is left over in Redis, and put back what is astray."""

from __future__ import annotations

import click

from ryla_tasks.cli.output import console, json_option, print_json

__all__ = ["clean"]


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what there is to do.")
@json_option
def clean(dry_run: bool, as_json: bool) -> None:
    """Go over all jobs in Redis: drop stale records and what has no record, and put back jobs that are due nowhere.

    Running workers do this by themselves for all that comes up in their normal course. Safe at any time.
    """
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.store import cleaning
    from ryla_tasks.tasks.runtime import runtime_of

    runtime = runtime_of(current_app())
    found = cleaning.clean(runtime.client, runtime.settings.key_prefix, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "found": {name: found[name] for name in cleaning.FINDINGS}})
        return
    out = console()
    for name, count in found.items():
        out.print(f"{count} {cleaning.FINDINGS[name]}")
    if not found:
        out.print("Nothing to clean.")
    elif dry_run:
        out.print("Nothing was changed: this was a dry run.")
