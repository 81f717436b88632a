"""What is shipped: the library with its data files, and nothing of the rest of the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_library_alone(wheel: zipfile.ZipFile) -> None:
    folders = {name.split("/")[0] for name in wheel.namelist()}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"ryla_tasks"}


def test_the_wheel_holds_every_file_of_the_library(wheel: zipfile.ZipFile) -> None:
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ryla_tasks").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "ryla_tasks/py.typed" in sources
    assert {name for name in wheel.namelist() if name.startswith("ryla_tasks/")} == sources


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == "ryla-tasks"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert {"django", "flask", "simulator", "embedded", "s3", "dev"} <= set(metadata.get_all("Provides-Extra", []))
    assert any(file.endswith("/licenses/LICENSE") for file in wheel.namelist())


def test_no_package_index_is_named() -> None:
    for name in ("constraints.txt", "pyproject.toml", "Makefile", ".ci/run"):
        words = (ROOT / name).read_text()
        assert not [
            option for option in ("--index-url", "--extra-index-url", "--find-links", "pypi") if option in words
        ]


def test_every_direct_dependency_is_pinned_with_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked_for = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    reasoned = {_name(line) for line in pins if "==" in line and "  # " in line}
    assert {_name(requirement) for requirement in asked_for} - {"ryla-tasks"} == reasoned


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return match[0].lower()
