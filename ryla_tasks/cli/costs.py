"""`ryla costs`: what the jobs of a period have cost, from the ledger in Redis."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ryla_tasks.cli.output import console, json_option, print_json

if TYPE_CHECKING:
    from ryla_tasks.costs.period import Period
    from ryla_tasks.costs.report import Report

__all__ = ["costs"]

_MOST_DAYS = 400


@click.command()
@click.option(
    "--by",
    type=click.Choice(["day", "hour", "user", "kind", "endpoint", "target"]),
    default="day",
    show_default=True,
    help="What to sum by.",
)
@click.option("--days", type=click.IntRange(1, _MOST_DAYS), help="The last so many days, today included.  [default: 7]")
@click.option("--since", metavar="TIME", help="From this day or time on, as 2026-06-01 or 2026-06-01T08:00.")
@click.option("--until", metavar="TIME", help="Before this day or time.  [default: now]")
@click.option("--pod-price", type=click.FloatRange(0, min_open=True), help="US dollars for an hour of a pod to weigh.")
@click.option("--reconcile", is_flag=True, help="Ask RunPod what it has billed, and say why that differs.")
@click.option(
    "--idle-timeout",
    type=click.FloatRange(0, 3600),
    default=5,
    show_default=True,
    help="Seconds that a worker waits for another job, as set at the endpoints; for --reconcile.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, and nothing else, on standard output.")
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts to this file."
)
@json_option
def costs(
    by: str,
    days: int | None,
    since: str | None,
    until: str | None,
    pod_price: float | None,
    reconcile: bool,
    idle_timeout: float,
    as_csv: bool,
    page: Path | None,
    as_json: bool,
) -> None:
    """Show what jobs have cost, by day, hour, user, kind, endpoint or target.

    It counts what has ended in that time: jobs, attempts (retries and failovers too), images, seconds, dollars. Days
    and times are those of RYLA_TIMEZONE. The ledger is kept for 400 days, longer than the jobs themselves.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.costs.report import report_of
    from ryla_tasks.jobs.usage import By, grouped
    from ryla_tasks.store.usage import UsageStore
    from ryla_tasks.tasks.runtime import runtime_of

    runtime = runtime_of(current_app())
    settings = runtime.settings
    store = UsageStore(runtime.client, prefix=settings.key_prefix)
    now = datetime.datetime.fromtimestamp(store.now(), settings.tzinfo)
    period = _period(days, since, until, now)
    report = report_of(settings, store, By(by), period, pod_price_per_h=pod_price)
    if reconcile:
        from ryla_tasks.costs.reconcile import reconcile as with_bills

        used = grouped(store.rows(period.first_hour, period.end_hour), By.TARGET, period.zone)
        report = report.with_bills(with_bills(settings, period, used, idle_timeout_s=idle_timeout))
    if page is not None:
        _write(page, report)
    _print(report, page, as_json=as_json, as_csv=as_csv)


def _write(page: Path, report: Report) -> None:
    from ryla_tasks.costs.page import page_of

    try:
        page.write_text(page_of(report), encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(f"{page}: {error.strerror}", param_hint="--html") from error


def _print(report: Report, page: Path | None, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        from ryla_tasks.costs.documents import as_json as document

        print_json(document(report))
    elif as_csv:
        from ryla_tasks.costs.documents import as_csv as lines

        click.echo(lines(report), nl=False)
    else:
        from ryla_tasks.cli.costing import print_report

        print_report(report)
        if page is not None:
            console().print(f"The page is {page}.")


def _period(days: int | None, since: str | None, until: str | None, now: datetime.datetime) -> Period:
    from ryla_tasks.costs.period import Period

    if days is not None and since is not None:
        raise click.UsageError("--days and --since exclude each other")
    end = now if until is None else _time(until, "--until", now)
    first = Period.last_days(days or 7, end).since if since is None else _time(since, "--since", now)
    if first >= end:
        raise click.BadParameter("must be before --until and not in the future", param_hint="--since")
    if end - first > datetime.timedelta(days=_MOST_DAYS + 1):
        raise click.BadParameter(f"is more than {_MOST_DAYS} days before the end", param_hint="--since")
    return Period(first, end, now)


def _time(text: str, option: str, now: datetime.datetime) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no day and no time, as 2026-06-01T08:00", param_hint=option) from None
    return time.replace(tzinfo=now.tzinfo) if time.tzinfo is None else time.astimezone(now.tzinfo)
