"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ryla_tasks.jobs.redact import redacted

__all__ = ["Finding", "Level", "ok", "problem", "warning"]


class Level(StrEnum):
    """OK. WARNING: it works, and may not for long or not well. PROBLEM: jobs do not run, or may be lost."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, in one sentence, and what to do. `check` is put in by whoever runs the checks."""

    level: Level
    says: str
    advice: str = ""
    check: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"check": self.check, "level": str(self.level), "says": self.says, "advice": self.advice}


def ok(says: str) -> Finding:
    return Finding(Level.OK, redacted(says))


def warning(says: str, advice: str) -> Finding:
    return Finding(Level.WARNING, redacted(says), advice)


def problem(says: str, advice: str) -> Finding:
    return Finding(Level.PROBLEM, redacted(says), advice)
