"""The pages of docs say what the code says, and make a site."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import yaml

from ryla_tasks.config.model import Settings
from ryla_tasks.config.page import page
from ryla_tasks.config.sources import variable_for
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import JobRecord, JobSpec
from ryla_tasks.jobs.states import State

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_page_of_settings_is_that_of_the_models() -> None:
    """Make it anew with `python -m ryla_tasks.config > docs/settings.md`."""
    assert (DOCS / "settings.md").read_text() == page()


def test_every_setting_is_on_it() -> None:
    text = page()
    for name in Settings.model_fields:
        variable = {"accounts": "RYLA_ACCOUNT_<NAME>", "endpoints": "RYLA_ENDPOINT_<NAME>"}.get(
            name, variable_for(name)
        )
        assert f"| `{variable}` |" in text


def rows(text: str, heading: str) -> list[str]:
    """The first cells of the table below a text, without their marks."""
    table = text[text.index(heading) :].split("\n\n", 1)[0]
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def event_types() -> set[str]:
    """Every type that the code gives an event: the third word of a decision, `event_json`, and what the scripts get."""
    found = set()
    for part in ("jobs", "store", "tasks"):
        for file in (ROOT / "ryla_tasks" / part).rglob("*.py"):
            found |= set(_types_in(ast.parse(file.read_text())))
    return found - {""}


def _types_in(tree: ast.AST) -> list[str]:
    found: list[ast.expr | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("Decision")):
                found += [key.value for key in node.keywords if key.arg == "event"] + node.args[3:4]
            case ast.Call(func=ast.Name("event_json")):
                found += node.args[:1]
            case ast.Call(func=ast.Name("dumps"), args=[ast.Dict(keys=[ast.Constant("type"), *_], values=[first, *_])]):
                found.append(first)
            case ast.FunctionDef("_telling"):
                found += [part for one in ast.walk(node) if isinstance(one, ast.Return) for part in _words(one.value)]
    return [one.value for one in found for one in _words(one) if isinstance(one.value, str)]


def _words(node: ast.expr | None) -> list[ast.Constant]:
    match node:
        case ast.Constant():
            return [node]
        case ast.IfExp():
            return [*_words(node.body), *_words(node.orelse)]
    return []


def test_every_type_of_event_is_on_its_page_and_no_other() -> None:
    assert set(rows((DOCS / "events.md").read_text(), "| type |")) == event_types()
    assert {"created", "state", "progress", "retry", "restarted", "twin_kept", "undelivered"} <= event_types()


def test_the_fields_of_an_event_are_those_of_progress() -> None:
    text = (DOCS / "events.md").read_text()
    progress = progress_of(JobRecord("j", JobSpec("t", "image", "image")), 0.0).to_json()
    assert rows(text, "| field | what |") == list(progress)
    assert all(f"`{state}`" in text for state in State)


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose tags name what only MkDocs knows."""


def pages_of(nav: list[dict[str, object]]) -> list[str]:
    found: list[str] = []
    for entry in nav:
        for target in entry.values():
            found += [target] if isinstance(target, str) else pages_of(target)  # type: ignore[arg-type]
    return found


def test_every_page_is_in_the_navigation() -> None:
    named = pages_of(yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)["nav"])
    assert len(named) == len(set(named))
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} <= set(named)


def test_the_site_can_be_built(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "settings/index.html").exists()
