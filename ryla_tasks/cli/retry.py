"""`ryla retry`: make jobs again that have ended without a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from ryla_tasks.cli.exits import Exit, Failure
from ryla_tasks.cli.moments import MOMENT
from ryla_tasks.cli.output import console, json_option, print_json
from ryla_tasks.jobs.states import State

if TYPE_CHECKING:
    from ryla_tasks.jobs.record import JobRecord

__all__ = ["retry"]

#: So many jobs are made again without a question.
_FEW = 5

#: What `--failed` takes. Who cancelled a job did so on purpose.
_FAILED = (State.FAILED, State.TIMED_OUT, State.EXPIRED)


@click.command()
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--failed", is_flag=True, help="All that failed, timed out or expired and that fit the options below.")
@click.option("--kind", help="Of those, only this kind: image, lora or special.")
@click.option("--endpoint", help="Only those of this endpoint, by its name in the settings.")
@click.option("--user", "user_id", help="Only this user's.")
@click.option("--code", help="Only those that ended with this code (docs/errors.md).")
@click.option("--since", type=MOMENT, help="Only those that ended since then: 30m, 1h, 7d ago, or 2026-01-31T12:00.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help=f"Do not ask before making more than {_FEW}.")
@click.option("--again", is_flag=True, help="Also what has been made again before.")
@click.option("--even-unknown", is_flag=True, help="Also where a GPU may have taken the ended job: may pay twice.")
@click.option("--app", "-A", help="Your own Celery app, with ryla_tasks installed: needed for jobs of your own tasks.")
@json_option
def retry(
    job_id: str | None,
    failed: bool,
    kind: str | None,
    endpoint: str | None,
    user_id: str | None,
    code: str | None,
    since: float | None,
    limit: int,
    dry_run: bool,
    yes: bool,
    again: bool,
    even_unknown: bool,
    app: str | None,
    as_json: bool,
) -> None:
    """Make the job ID again, or with --failed all that fit: new jobs with the same task, input, user and priority.

    Of a sheet, what is missing of it. What was made again before is not made a second time without --again. Budgets
    hold. What followed a job in a Celery chain, group or chord does not follow the new one. Exit code 1 where nothing
    could be made again.
    """
    narrowed = any(one is not None for one in (kind, endpoint, user_id, code, since))
    if (job_id is None) != failed or (narrowed and not failed):
        raise click.UsageError("Give an ID alone, or --failed with --kind, --endpoint, --user, --code, --since.")
    if app is not None:
        _load(app)
    again_with = {"again": again, "may_pay_twice": even_unknown}
    if job_id is not None and not dry_run:
        _report([_make(job_id, again_with)], as_json=as_json)
        return
    found = [job_id] if job_id is not None else _found(kind, endpoint, user_id, code, since)
    chosen = list(islice(found, limit + 1))
    more, chosen = len(chosen) > limit, chosen[:limit]
    rows = [_checked(one, even_unknown) for one in chosen]
    ready = [row for row in rows if not row.problem]
    if not dry_run and ready:
        if len(ready) > _FEW and not yes:
            _ask(len(ready), more=more, as_json=as_json)
        made = {row.job_id: _made(row.job_id, again_with) for row in ready}
        rows = [made.get(row.job_id, row) for row in rows]
    _report(rows, as_json=as_json, more=more, dry_run=dry_run)


def _load(app: str) -> None:
    """Import an app of the user's own; `install` has made it the one that jobs go through."""
    from celery.app.utils import find_app

    try:
        find_app(app)
    except (ImportError, AttributeError) as error:
        raise click.BadParameter(str(error), param_hint="--app") from error


@dataclass(frozen=True, slots=True)
class _Row:
    """One ended job: what was made of it, or why nothing."""

    job_id: str
    new_id: str | None = None
    is_new: bool = False
    problem: str = ""


def _found(
    kind: str | None, endpoint: str | None, user_id: str | None, code: str | None, since: float | None
) -> Iterator[str]:
    """Ids of failed jobs that fit, the newest of each state first."""
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.store.listing import list_records
    from ryla_tasks.tasks.runtime import runtime_of

    store = runtime_of(current_app()).store
    for state in _FAILED:
        for record in list_records(
            store.client, store.prefix, user_id=user_id, kind=kind, state=state, endpoint=endpoint, cells=False
        ):
            if (since is None or record.ended >= since) and (code is None or _code(record) == code):
                yield record.job_id


def _code(record: JobRecord) -> str | None:
    from ryla_tasks.cli.documents import error_document

    return (error_document(record) or {}).get("code")


def _checked(job_id: str, even_unknown: bool) -> _Row:
    """Whether a job can be made again."""
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.errors import InvalidJob, JobNotFound
    from ryla_tasks.tasks.again import kept_of

    try:
        kept_of(current_app(), job_id, may_pay_twice=even_unknown)
    except (InvalidJob, JobNotFound) as error:
        return _Row(job_id, problem=str(error))
    return _Row(job_id)


def _make(job_id: str, options: dict[str, bool]) -> _Row:
    """Make one job again. Raises `InvalidJob` where it cannot be."""
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.tasks.again import make_again

    made = make_again(current_app(), job_id, {}, **options)
    return _Row(job_id, made.job_id, made.is_new)


def _made(job_id: str, options: dict[str, bool]) -> _Row:
    """The same for one of many: the others go on."""
    from ryla_tasks.errors import ConfigurationError, InvalidJob, JobNotFound

    try:
        return _make(job_id, options)
    except (InvalidJob, JobNotFound, ConfigurationError) as error:
        return _Row(job_id, problem=str(error))


def _ask(count: int, *, more: bool, as_json: bool) -> None:
    if as_json:
        raise Failure(f"{count} jobs would be made again: say --yes, or --dry-run to see them", Exit.USAGE)
    click.confirm(f"Make {count} jobs again{' (there are more)' if more else ''}?", abort=True, err=True)


def _report(rows: list[_Row], *, as_json: bool, more: bool = False, dry_run: bool = False) -> None:
    if as_json:
        documents = [_document(row) for row in rows]
        print_json({"dry_run": dry_run, "more": more, "jobs": documents})
    else:
        _print(rows, more=more, dry_run=dry_run)
    if rows and all(row.problem for row in rows):
        click.get_current_context().exit(Exit.FAILED)


def _document(row: _Row) -> dict[str, Any]:
    return {**asdict(row), "problem": row.problem or None}


def _print(rows: list[_Row], *, more: bool, dry_run: bool) -> None:
    out = console()
    for row in rows:
        word = "would be made again" if dry_run else f"-> {row.new_id}"
        if row.problem:
            out.print(row.problem.removeprefix("job_id: "), style="yellow", soft_wrap=True)
        else:
            out.print(f"{row.job_id} {word}{'' if row.is_new or dry_run else '  (was made before)'}", soft_wrap=True)
    counts = Counter("skipped" if row.problem else "new" if row.is_new or dry_run else "before" for row in rows)
    if not rows:
        out.print("No jobs.")
    elif len(rows) > 1:
        words = {"new": "to be made again" if dry_run else "made again", "before": "made before", "skipped": "not"}
        out.print(", ".join(f"{counts[name]} {word}" for name, word in words.items() if counts[name]))
    if more:
        out.print("There are more: raise --limit, or run it once more.")
