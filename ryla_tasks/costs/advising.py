"""The parts of the page that weigh something: a pod, a warm worker, RunPod's bill."""

from __future__ import annotations

from html import escape

from ryla_tasks.costs.report import Report, TargetReport
from ryla_tasks.costs.svg import Bar, bars, lines
from ryla_tasks.costs.tables import key, money, share, table
from ryla_tasks.jobs.breakeven import BreakEven

__all__ = ["break_even_section", "invoice_section", "warm_section"]

_DAY_H = 24.0
_WHY = ("Disk", "Fee", "Idle", "Rounding", "Cold", "Assumed", "Unknown")


def break_even_section(report: Report) -> str:
    """A chart for each target with the price of a pod."""
    weighed = [(target, target.break_even) for target in report.targets if target.break_even]
    if not weighed:
        why = "No price of a pod is known: set pod_price_per_h of a target, or give --pod-price."
        return f'<h2>Break-even against a pod</h2><p class="faint">{why}</p>'
    figures = [
        (
            target.target, f"{even.run_h:.2f} h", money(even.serverless_a_day), money(even.pod_a_day),
            "–" if even.even_h is None else f"{even.even_h:.1f} h",
            "–" if even.even_images is None else f"{even.even_images:,.0f}",
        )
        for target, even in weighed
    ]  # fmt: skip
    head = ("Target", "Runs a day", "Serverless a day", "Pod a day", "Break-even", "In images a day")
    charts = "".join(_break_even(target, even) for target, even in weighed)
    return f"<h2>Break-even against a pod</h2>{charts}{table(head, figures)}"


def _break_even(target: TargetReport, even: BreakEven) -> str:
    few = "" if target.advice.enough else "Too little history to go by. "
    text = f"<h3>{escape(target.target)}</h3><p>{escape(few + even.sentence)}</p>"
    if not even.hour_usd:
        return text
    marks = [("now", even.run_h, even.serverless_a_day)]
    if even.even_h is not None and even.even_h <= _DAY_H:
        marks.append((f"{even.even_h:.1f} h", even.even_h, even.pod_a_day))
    chart = lines(
        f"Cost of a day by hours of runs, {target.target}",
        (
            ("Serverless", "run", ((0.0, 0.0), (_DAY_H, even.hour_usd * _DAY_H))),
            ("Pod", "flat", ((0.0, even.pod_a_day), (_DAY_H, even.pod_a_day))),
        ),
        money,
        most_x=_DAY_H,
        x_unit=" h",
        marks=marks,
    )
    return f"{text}{key(('run', 'Serverless'), ('flat', 'A pod that is always on'))}{chart}"


def warm_section(report: Report) -> str:
    """What a worker that is always on would cost and save, for each target."""
    if not report.targets:
        return ""
    rows, figures, words = [], [], []
    for target in report.targets:
        advice = target.advice
        words.append(f"<li><strong>{escape(target.target)}</strong>: {escape(advice.sentence)}</li>")
        if advice.cost_a_day is not None and advice.extra_a_day is not None:
            paid = advice.cost_a_day - advice.extra_a_day
            value = f"{money(advice.extra_a_day)} more a day"
            rows.append(Bar(target.target, (("run", paid), ("start", advice.extra_a_day)), value))
        figures.append(
            (
                target.target, money(advice.cost_a_day), money(advice.extra_a_day), f"{advice.cold_starts:,}",
                f"{advice.cold_wait_s:,.0f} s", money(advice.usd_per_saved_hour),
            )
        )  # fmt: skip
    chart = (
        f"{key(('run', 'Paid anyway'), ('start', 'More'))}{bars('Cost of a warm worker a day', rows)}" if rows else ""
    )
    head = ("Target", "A warm worker a day", "More than now", "Starts saved", "Waiting saved", "An hour saved costs")
    return (
        '<h2>A warm worker (workersMin = 1)</h2><p class="faint">What one worker that is always on would cost, and '
        f"save at the most.</p><ul>{''.join(words)}</ul>{chart}{table(head, figures)}"
    )


def invoice_section(report: Report) -> str:
    """RunPod's bill beside the estimate."""
    found = report.reconciliation
    if found is None:
        return ""
    rows = [
        bar
        for line in found.lines
        for bar in (
            Bar(f"{line.target}, estimate", (("run", line.estimate),), money(line.estimate)),
            Bar(f"{line.target}, invoice", (("flat", line.invoice.total),), money(line.invoice.total)),
        )
    ]
    figures = []
    for line in found.lines:
        why = line.difference
        parts = (why.disk, why.fee, why.idle, why.rounding, why.cold, why.assumed, why.unknown)
        shown = (line.estimate, line.invoice.total, why.total, *parts)
        figures.append((line.target, *map(money, shown), share(line.idle_share), share(line.cold_share)))
    head = ("Target", "Estimate", "Invoice", "Difference", *_WHY, "Idle share", "Cold share")
    foot = ("All", money(found.estimate), money(found.invoice), money(found.invoice - found.estimate))
    hours = f"{found.begins:%Y-%m-%d %H:%M} to {found.ends:%Y-%m-%d %H:%M} UTC"
    return (
        f'<h2>RunPod\'s bill</h2><p class="faint">{hours}. Idle is at most {found.idle_timeout_s:g} s after each '
        "attempt; unknown are workers that are always on, starts that no job waited for, and what others have sent "
        "there.</p>"
        f"{bars('Estimate and invoice by target', rows)}{table(head, figures, foot, dense=True)}"
    )
