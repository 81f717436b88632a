"""A report as one HTML page that needs nothing else: no script, no other file, no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from ryla_tasks.costs.advising import break_even_section, invoice_section, warm_section
from ryla_tasks.costs.report import Report
from ryla_tasks.costs.svg import Bar, bars, columns
from ryla_tasks.costs.tables import key, money, share, table, tile
from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.usage import By, Usage

__all__ = ["page_of"]

_COST_KEY = (("run", "Runs"), ("start", "Workers' starts"), ("assumed", "Assumed"))
#: A page is for people: beyond so many rows the CSV is.
_MOST_ROWS = 200
_COLUMNS = ("Jobs", "Completed", "Attempts", "GPU time", "Images", "An image", "Cost")


def page_of(report: Report) -> str:
    """The page as text."""
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    sections = (
        _groups(report),
        _days(report),
        _hours(report),
        _endpoints(report),
        _cold(report),
        break_even_section(report),
        warm_section(report),
        invoice_section(report),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Costs, {escape(_span(report))}</title><style>{style}</style></head><body>"
        f"{_head(report)}<main>{''.join(f'<section>{one}</section>' for one in sections if one)}</main></body></html>\n"
    )


def _span(report: Report) -> str:
    first, last = report.period.since, report.period.ended
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def _head(report: Report) -> str:
    used, waited = report.total, report.total.cold_ms / 1000
    ended = f"{used.completed:,} completed, {used.failed + used.timed_out + used.expired:,} failed"
    tiles = (
        tile("Cost", money(used.usd), "an estimate"),
        tile("Jobs", f"{used.jobs:,}", ended),
        tile("Images", f"{used.images:,}", f"{money(used.usd_per_image, 4)} each"),
        tile("GPU time", _long(used.run_ms / 1000), f"{used.attempts:,} attempts"),
        tile("Cold share", share(used.cold_share), f"{_long(waited)} of waiting for starts"),
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    return (
        f'<header><h1>What the GPU jobs cost</h1><p class="faint">{escape(_span(report))}, '
        f'{escape(str(report.period.zone))}</p><dl class="tiles">{"".join(tiles)}</dl>'
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}</header>"
    )


def _groups(report: Report) -> str:
    if report.by in (By.DAY, By.ENDPOINT):
        return ""  # they have charts of their own
    dearest = sorted(report.groups.items(), key=lambda item: -item[1].cost)[:_MOST_ROWS]
    more = len(report.groups) - len(dearest)
    rest = f'<p class="faint">The {len(dearest)} dearest of {len(report.groups)}.</p>' if more else ""
    return f"<h2>By {report.by}</h2>{rest}{_table(str(report.by).title(), dict(dearest), report.total)}"


def _days(report: Report) -> str:
    chart = columns("Cost by day", [_bar(day, used, day[5:]) for day, used in report.by_day.items()], money)
    return f"<h2>Cost by day</h2>{key(*_COST_KEY)}{chart}{_table('Day', report.by_day, report.total)}"


def _hours(report: Report) -> str:
    minutes = [used.run_ms / 60_000 for used in report.by_hour]
    rows = [
        Bar(f"{hour}", (("run", worth),), f"{worth:,.1f} min, {used.attempts:,} attempts")
        for hour, (worth, used) in enumerate(zip(minutes, report.by_hour, strict=True))
    ]
    head = ("Hour", *(str(hour) for hour in range(len(rows))))
    figures = (
        ("GPU min", *(f"{worth:,.0f}" if worth >= 10 else f"{worth:.1f}" for worth in minutes)),
        ("Attempts", *(f"{used.attempts:,}" for used in report.by_hour)),
        ("Cold", *(f"{used.cold:,}" for used in report.by_hour)),
    )
    return (
        '<h2>Usage by hour of the day</h2><p class="faint">Minutes of GPU work that ended in each hour, over all days.'
        f"</p>{columns('GPU minutes by hour of the day', rows, lambda most: f'{most:,.4g}')}"
        f"{table(head, figures, dense=True)}"
    )


def _endpoints(report: Report) -> str:
    dearest = sorted(report.by_endpoint.items(), key=lambda item: -item[1].cost)
    chart = bars("Cost by endpoint", [_bar(name, used, name) for name, used in dearest])
    return f"<h2>Cost by endpoint</h2>{key(*_COST_KEY)}{chart}{_table('Endpoint', dict(dearest), report.total)}"


def _cold(report: Report) -> str:
    found = [(name, used) for name, used in report.by_endpoint.items() if used.attempts]
    rows = [Bar(name, (("start", used.cold_share or 0.0),), share(used.cold_share)) for name, used in found]
    figures = [
        (
            name, f"{used.attempts:,}", f"{used.cold:,}", share(used.cold_share), _long(used.cold_ms / 1000),
            f"{used.starts:,}", money(dollars(used.start_cost)),
        )
        for name, used in found
    ]  # fmt: skip
    head = ("Endpoint", "Attempts", "Cold", "Share", "Waited", "Starts paid", "Cost of starts")
    return (
        '<h2>Cold share</h2><p class="faint">Attempts that waited for a worker to start.</p>'
        f"{bars('Share of cold attempts by endpoint', rows, most=1.0)}{table(head, figures)}"
    )


def _bar(name: str, used: Usage, label: str) -> Bar:
    runs = used.cost - used.start_cost - used.assumed
    parts = (("run", runs), ("start", used.start_cost), ("assumed", used.assumed))
    value = money(used.usd)
    return Bar(label or name, tuple((colour, dollars(max(0, amount))) for colour, amount in parts), value)


def _table(head: str, groups: Mapping[str, Usage], summed: Usage) -> str:
    rows = [(name or "(none)", *_figures(used)) for name, used in groups.items()]
    return table((head, *_COLUMNS), rows, ("All", *_figures(summed)))


def _figures(used: Usage) -> tuple[str, ...]:
    counts = (f"{used.jobs:,}", f"{used.completed:,}", f"{used.attempts:,}", _long(used.run_ms / 1000))
    return (*counts, f"{used.images:,}", money(used.usd_per_image, 4), money(used.usd))


def _long(seconds: float) -> str:
    """A length of time in a unit that fits."""
    if seconds >= 7200:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"
