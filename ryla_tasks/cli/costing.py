"""A report of costs as tables on a console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ryla_tasks.cli.output import console, plain

if TYPE_CHECKING:
    from ryla_tasks.costs.reconcile import Reconciliation
    from ryla_tasks.costs.report import Report
    from ryla_tasks.jobs.usage import Usage

__all__ = ["print_report"]


def print_report(report: Report) -> None:
    """Print the groups with their sum, what is to be known of them, and what follows for each target."""
    from rich.table import Table

    out, period = console(), report.period
    out.print(f"{period.since:%Y-%m-%d %H:%M} to {period.ended:%Y-%m-%d %H:%M}, {period.zone}")
    if not report.groups:
        out.print("Nothing was used.")
    else:
        table = Table(box=None, pad_edge=False)
        for name in (
            str(report.by).title(),
            "Jobs",
            "Done",
            "Failed",
            "Attempts",
            "Cold",
            "GPU s",
            "Images",
            "An image",
        ):
            table.add_column(name, overflow="fold", justify="left" if not table.columns else "right")
        table.add_column("Cost", justify="right")
        for group, used in report.groups.items():
            table.add_row(plain(group) or "-", *_figures(used, cold=report.by != "user"))
        table.add_row("all", *_figures(report.total, cold=True), style="bold")
        out.print(table)
    for note in report.notes:
        out.print(note)
    for target in report.targets:
        out.print(f"\n{target.target} ({', '.join(target.endpoints)}): {target.advice.sentence}")
        if target.break_even:
            out.print(target.break_even.sentence)
    if report.reconciliation:
        _print_bills(report.reconciliation)


def _figures(used: Usage, *, cold: bool) -> list[str]:
    failed = used.failed + used.timed_out + used.expired
    each, cost = used.usd_per_image, used.usd
    return [
        str(used.jobs), str(used.completed), str(failed), str(used.attempts), str(used.cold) if cold else "-",
        f"{used.run_ms / 1000:,.1f}", str(used.images), "-" if each is None else f"${each:.4f}",
        "-" if cost is None else f"${cost:,.4f}",
    ]  # fmt: skip


def _print_bills(found: Reconciliation) -> None:
    from rich.table import Table

    out = console()
    table = Table(box=None, pad_edge=False)
    for name in ("RunPod's bill", "Estimate", "Invoice", "Difference", "Idle", "Cold share", "Rounding", "Unknown"):
        table.add_column(name, overflow="fold", justify="left" if not table.columns else "right")
    for line in found.lines:
        why = line.difference
        cold = "-" if line.cold_share is None else f"{100 * line.cold_share:.0f} %"
        shown = [f"{usd:,.4f}" for usd in (line.estimate, line.invoice.total, why.total, why.idle)]
        table.add_row(line.target, *shown, cold, f"{why.rounding:,.4f}", f"{why.unknown:,.4f}")
    out.print()
    out.print(table)
    out.print(
        f"US dollars, {found.begins:%Y-%m-%d %H:%M} to {found.ends:%Y-%m-%d %H:%M} UTC. Idle is at most "
        f"{found.idle_timeout_s:g} s after each attempt. Unknown: workers that are always on, starts that no job "
        f"waited for, what others have sent there, what is not billed yet."
    )
