"""The versions that `ryla doctor` asks for are those of the package."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import ryla_tasks
from ryla_tasks.doctor.finding import Level
from ryla_tasks.doctor.software import RANGES, versions

PYPROJECT = Path(ryla_tasks.__file__).parents[1] / "pyproject.toml"
NOTHING: Any = None


def test_the_ranges_are_those_of_the_package() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    written = {line.replace("[redis]", "") for line in dependencies}
    assert {f"{name}>={least},<{below}" for name, (least, below) in RANGES.items()} <= written


def test_another_version_is_a_problem() -> None:
    found = list(versions(NOTHING, {"celery": "5.8.1", "kombu": "5.7.0", "redis": "8.1.0"}.__getitem__))
    assert [one.level for one in found] == [Level.PROBLEM]
    assert "celery 5.8.1" in found[0].says
