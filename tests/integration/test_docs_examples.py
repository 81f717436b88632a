"""What the pages of docs show, run in a fresh folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.fleet import Fleet
from tests.support.pages import examples, run_tests, written

_CONFTEST = """
import pytest

@pytest.fixture
def ryla_app():
    import shop
    return shop.app

@pytest.fixture
def ryla_queues():
    return ["shop", "billing"]
"""


def test_every_recipe_of_the_canvas_page(tmp_path: Path) -> None:
    files = {name.removeprefix("recipes/"): text for name, text in examples("canvas").items()}
    assert len(files) == 7
    written(tmp_path, {**files, "conftest.py": _CONFTEST})
    assert "8 passed" in run_tests(tmp_path)


def test_the_first_lines_of_the_quick_start(served: Fleet, tmp_path: Path) -> None:
    written(tmp_path, examples("quickstart"))
    command = [sys.executable, "first.py"]
    done = subprocess.run(command, cwd=tmp_path, env=served.env(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "state completed 100.0 Done" in done.stdout
    assert ".png " in done.stdout.splitlines()[-1]
