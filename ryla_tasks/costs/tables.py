"""Pieces of the page: money and shares as people read them, and tables. Everything that comes in is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["key", "money", "share", "table", "tile"]


def money(usd: float | None, digits: int | None = None) -> str:
    """Dollars: to the cent from a dollar on, else as far as it takes to see something."""
    if usd is None:
        return "–"
    if digits is None:
        digits = 2 if abs(usd) >= 1 or usd == 0 else 4
    return f"{'-' if usd < 0 else ''}${abs(usd):,.{digits}f}"


def share(part: float | None) -> str:
    """A share in percent."""
    return "–" if part is None else f"{100 * part:.1f} %"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str] | None = None, *, dense: bool = False
) -> str:
    """A table whose first column names the rows."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    last = f"<tfoot><tr>{_cells(foot)}</tr></tfoot>" if foot else ""
    style = ' class="dense"' if dense else ""
    return f'<div class="wide"><table{style}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>{last}</table></div>'


def key(*colours: tuple[str, str]) -> str:
    """What the colours of a chart stand for."""
    items = "".join(f'<li><i class="{colour}"></i>{escape(name)}</li>' for colour, name in colours)
    return f'<ul class="key">{items}</ul>'


def tile(name: str, value: str, more: str = "") -> str:
    """One figure, large."""
    small = f"<small>{escape(more)}</small>" if more else ""
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{small}</dd></div>"


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in row)
