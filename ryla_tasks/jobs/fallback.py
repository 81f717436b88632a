"""What a job took in place of what had failed: another model, another workflow, another endpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

__all__ = ["Fallback", "FallbackKind"]


class FallbackKind(StrEnum):
    """What was exchanged. MODEL is the same workflow with other model files, WORKFLOW another input altogether,
    ENDPOINT another target for the same input."""

    MODEL = "model"
    WORKFLOW = "workflow"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Fallback:
    """One fallback that a job has taken: `to` in place of `source`, because of the failure with the code `why`.

    `attempt` is the attempt that failed. `error` is what a developer should know of the failure, as plain JSON; it is
    kept of the first one alone, because that is the one to mend. Of an ENDPOINT, `to` is empty: where a job goes is
    decided when it is submitted.
    """

    kind: FallbackKind
    source: str
    to: str
    why: str
    attempt: int = 0
    error: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, str]:
        """The line in results and events."""
        return {"kind": str(self.kind), "from": self.source, "to": self.to, "why": self.why}

    def kept(self) -> dict[str, Any]:
        """As the record keeps it."""
        return {**self.to_json(), "attempt": self.attempt, **({"error": self.error} if self.error else {})}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `kept` gave; what a newer version wrote besides is ignored."""
        return cls(
            kind=FallbackKind(kept["kind"]),
            source=kept["from"],
            to=kept["to"],
            why=kept["why"],
            attempt=kept.get("attempt", 0),
            error=kept.get("error"),
        )
