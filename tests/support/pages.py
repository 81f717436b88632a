"""The examples in the pages of docs, run as a reader of theirs would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "examples", "run_tests", "written"]

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r'^```(?:python|html) title="(?P<name>[^"]+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


def examples(page: str) -> dict[str, str]:
    """The files that a page of docs shows, by name."""
    text = (ROOT / f"docs/{page}.md").read_text()
    return {match["name"]: match["text"] for match in _BLOCK.finditer(text)}


def run_tests(folder: Path, *options: str, **env: str) -> str:
    """Run pytest in a folder as a project of its own; what it said."""
    (folder / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings =\n    error::pytest.PytestUnhandledThreadExceptionWarning\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "ryla_tasks.testing.plugin",
        "-p",
        "no:cacheprovider",
        *options,
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RYLA_", "RUNPOD_", "PYTEST_"))}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def written(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files in it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
