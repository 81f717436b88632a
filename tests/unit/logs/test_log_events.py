"""The table of events, the lines that are written, and the page are one."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import ryla_tasks
from ryla_tasks.logs import EVENTS
from ryla_tasks.logs.log import JOB_FIELDS
from ryla_tasks.logs.page import page

PACKAGE = Path(ryla_tasks.__file__).parent
PAGE = PACKAGE.parent / "docs" / "logs.md"
_WRITERS = {"debug", "info", "warning", "error", "exception"}

Call = tuple[str, ast.Call, ast.Module]


def calls() -> Iterator[Call]:
    """Each call that writes a line, with its file; the simulator is another program."""
    for file in sorted(PACKAGE.rglob("*.py")):
        where = str(file.relative_to(PACKAGE))
        if where.startswith("simulator/") or where == "logs/log.py":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _WRITERS:
                of = node.func.value
                if isinstance(of, ast.Name) and of.id in ("log", "logger"):
                    yield where, node, tree


def names(call: Call) -> list[str]:
    """The names that a call may write: a word, or those of a table of the module."""
    where, node, tree = call
    first = node.args[0]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return [first.value.split(" ")[0]]
    assert isinstance(first, ast.Subscript), f"{where}:{node.lineno}: the event is no word"
    assert isinstance(first.value, ast.Name)
    for line in tree.body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        if isinstance(target, ast.Name) and target.id == first.value.id:
            table = line.value  # type: ignore[attr-defined]
            return [value.value for value in table.values]
    raise AssertionError(f"{where}:{node.lineno}: no table {first.value.id}")


def test_every_event_that_is_written_is_in_the_table_and_the_other_way_round() -> None:
    written = {name for call in calls() for name in names(call)}
    assert len(written) > 40
    assert written == set(EVENTS)


def test_names_have_one_form() -> None:
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in EVENTS)


def test_no_field_is_one_that_a_log_record_has() -> None:
    taken = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "data"}
    fields = {keyword.arg or "" for _, node, _ in calls() for keyword in node.keywords} - {"exc_info"}
    assert "error" in fields
    assert not (fields | set(JOB_FIELDS)) & taken


def test_the_page_is_that_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
