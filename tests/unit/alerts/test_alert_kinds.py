"""What alerts say, and that every alert that is raised has words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ryla_tasks
from ryla_tasks.alerts import KINDS, Alert, Severity
from ryla_tasks.alerts.alert import digest_of
from ryla_tasks.alerts.page import page
from ryla_tasks.store.events import Event

PACKAGE = Path(ryla_tasks.__file__).parent

#: What each kind is raised with.
FIELDS = {
    "target": "runpod:img",
    "endpoint": "image",
    "cause": "no_worker",
    "message": "Look there.",
    "job_id": "j1",
    "details": "it failed",
    "day": "2026-11-26",
    "threshold": 0.5,
    "spent_usd": 1.234567,
    "budget_usd": 2.0,
    "retries": 3,
    "code": "server_error",
    "percent": 40,
    "jobs": 50,
    "error": "ServerError",
}


def raised() -> set[str]:
    """The kinds that the code raises, in Python and in Lua."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tell_operator":
                kind = node.args[1]
                assert isinstance(kind, ast.Constant)
                found.add(kind.value)
            if isinstance(node, ast.Dict) and file.parent.name == "tasks":
                pairs = zip(node.keys, node.values, strict=True)
                found |= {
                    value.value
                    for key, value in pairs
                    if getattr(key, "value", "") == "type" and isinstance(value, ast.Constant) and value.value in KINDS
                }
    for file in PACKAGE.rglob("*.lua"):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r"alert\('(\w+):'", text))
    return found


def test_every_alert_that_is_raised_has_words_and_the_other_way_round() -> None:
    # These two are told apart by a variable; `test` is the command line's.
    assert raised() | {"breaker_open", "breaker_closed", "test"} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_whole(kind: str) -> None:
    alert = Alert.of(Event("1700000000000-3", kind, FIELDS))
    assert "{" not in alert.title + alert.body
    assert "unknown)" not in alert.title + alert.body
    assert alert.advice
    assert alert.title.startswith(f"[ryla] {alert.severity}: ")
    assert "alert: 1700000000000-3" in alert.body
    assert "job_id: j1" in alert.body


def test_one_of_another_version_is_told_all_the_same() -> None:
    alert = Alert.of(Event("1-0", "new_kind", {"endpoint": "image"}))
    assert (alert.kind, alert.severity, alert.about) == ("new_kind", Severity.WARNING, (("endpoint", "image"),))


def test_nothing_secret_and_no_second_line() -> None:
    error = "https://a.example/x?sig=topsecret\nforged"
    alert = Alert.of(Event("1-0", "health_failing", {"target": "t", "error": error}))
    assert "topsecret" not in alert.title
    assert "\n" not in alert.title


def test_a_budget_that_is_spent_is_critical() -> None:
    spent = [Alert.of(Event("1-0", "budget", {**FIELDS, "threshold": share})).severity for share in (0.5, 1.0)]
    assert spent == [Severity.WARNING, Severity.CRITICAL]


def test_a_digest_is_as_bad_as_its_worst_and_not_too_long() -> None:
    alerts = [Alert.of(Event(f"{n}-0", "stuck" if n == 7 else "breaker_open", FIELDS)) for n in range(50)]
    title, body, worst = digest_of(alerts)
    assert title == "[ryla] critical: 50 more alerts"
    assert worst is Severity.CRITICAL
    assert body.endswith("and 30 more: ryla alerts")


def test_the_page_is_that_of_the_table() -> None:
    assert (PACKAGE.parent / "docs" / "alerts.md").read_text(encoding="utf-8") == page()
