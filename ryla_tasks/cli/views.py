"""Three ways to show a job that goes on: a live bar, plain lines, JSON lines."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ryla_tasks.cli.documents import event_document
from ryla_tasks.cli.output import console, print_json_line
from ryla_tasks.store.events import Event

__all__ = ["BarView", "JsonView", "LineView", "SilentView", "View", "view_for"]


class View(Protocol):
    """Shows the events of one job. A context manager, because a live one changes the terminal."""

    def show(self, event: Event) -> None:
        """Show what has happened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Plain:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class SilentView(_Plain):
    """Shows nothing."""

    def show(self, event: Event) -> None:  # noqa: ARG002
        return


class JsonView(_Plain):
    """One JSON document a line."""

    def show(self, event: Event) -> None:
        print_json_line(event_document(event))


class LineView(_Plain):
    """A line for each change that a person would notice, for terminals without cursor and for logs."""

    #: Of a running job's percentages, so many get a line.
    _STEP = 10.0

    def __init__(self, out: Console) -> None:
        self._out = out
        self._first: float | None = None
        self._shown: tuple[Any, int] | None = None

    def show(self, event: Event) -> None:
        self._first = event.at if self._first is None else self._first
        phase, percent = event.data.get("phase"), float(event.data.get("percent") or 0.0)
        now = (phase, int(percent // self._STEP))
        if phase is None or now == self._shown:
            return
        self._shown = now
        message = event.data.get("message", "")
        self._out.print(f"{event.at - self._first:6.1f} s  {percent:3.0f} %  {phase:<10}  {message}", soft_wrap=True)


class BarView:
    """A live bar with the phase, the message, the percentage, and the time so far and to go."""

    def __init__(self, out: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[phase]:<10}", style="bold cyan"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[eta]}", style="dim"),
            console=out,
        )
        self._task = self._progress.add_task("In line", total=100.0, phase="", eta="")

    def show(self, event: Event) -> None:
        data = event.data
        if "phase" not in data:
            return
        fields: dict[str, Any] = {"phase": data["phase"], "description": data.get("message", "")}
        eta = data.get("eta_s")
        fields["eta"] = f"about {eta:.0f} s left" if eta and eta >= 1 else ""
        if "percent" in data:
            fields["completed"] = float(data["percent"])
        self._progress.update(self._task, **fields)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def view_for(*, as_json: bool) -> View:
    """The view that fits where standard output goes."""
    if as_json:
        return JsonView()
    out = console()
    return BarView(out) if out.is_terminal and not out.is_dumb_terminal else LineView(out)
