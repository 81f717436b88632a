"""What a failure means, whoever saw it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ryla_tasks.errors import Category

__all__ = ["Next", "Verdict"]


class Next(StrEnum):
    """What follows from a failure."""

    RETRY = "retry"
    FAIL = "fail"
    WAIT = "wait"
    LOOK = "look"

    @property
    def words(self) -> str:
        """For the documentation."""
        return _WORDS[self]


_WORDS = {
    Next.RETRY: "a new attempt",
    Next.FAIL: "the job ends",
    Next.WAIT: "wait, then ask again",
    Next.LOOK: "look again",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means: how bad it is, a stable word for programs, a sentence for the person who waits.

    `nodes` are the workflow's nodes at fault, for a developer. `crash` says that the input may have brought down the
    GPU worker: nothing is tried a third time after two of these.
    """

    code: str
    category: Category
    sentence: str
    next: Next
    crash: bool = False
    nodes: tuple[dict[str, str], ...] = ()

    def info(self, details: Any) -> dict[str, Any]:
        """The `info` of the `JobError` that says so."""
        if self.nodes:
            details = {**(details or {}), "nodes": list(self.nodes)}
        return {"code": self.code, "category": str(self.category), "details": details}
