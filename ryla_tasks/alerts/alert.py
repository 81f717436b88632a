"""One alert, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ryla_tasks.alerts.kinds import KINDS, UNKNOWN, Severity
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.store.events import Event

__all__ = ["Alert", "digest_of"]

#: What an alert may be about, for who looks it up.
_HINTS = ("job_id", "endpoint", "target")

#: So many lines of a digest; the others are counted.
_MOST_LINES = 20


class _Fields(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return f"({name} unknown)"


@dataclass(frozen=True, slots=True)
class Alert:
    """What to tell the operator. `id` is its place in the stream: the same alert has it wherever it arrives."""

    id: str
    at: float
    kind: str
    severity: Severity
    sentence: str
    advice: str
    about: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, event: Event) -> Self:
        """The alert of an entry in the stream."""
        kind = KINDS.get(event.type, UNKNOWN)
        shown = _Fields({name: _shown(value) for name, value in event.data.items()})
        about = tuple((name, shown[name]) for name in _HINTS if event.data.get(name))
        severity = kind.severity
        if event.type == "budget" and float(event.data.get("threshold", 0)) >= 1:
            severity = Severity.CRITICAL
        sentence, advice = kind.sentence.format_map(shown), kind.advice.format_map(shown)
        return cls(event.position, event.at, event.type, severity, sentence, advice, about)

    @property
    def title(self) -> str:
        """One line: how bad, and what."""
        return f"[ryla] {self.severity}: {self.sentence}"

    @property
    def body(self) -> str:
        """What to do, what it is about, and its id."""
        hints = "".join(f"{name}: {value}\n" for name, value in self.about)
        return f"{self.advice}\n\n{hints}kind: {self.kind}\nalert: {self.id}"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "at": self.at,
            "kind": self.kind,
            "severity": str(self.severity),
            "sentence": self.sentence,
            "advice": self.advice,
            **dict(self.about),
        }


def digest_of(alerts: Sequence[Alert]) -> tuple[str, str, Severity]:
    """Title, body and severity of one message for many alerts."""
    worst = max((alert.severity for alert in alerts), key=list(Severity).index)
    lines = [f"{alert.severity}: {alert.sentence} ({alert.id})" for alert in alerts[:_MOST_LINES]]
    if len(alerts) > _MOST_LINES:
        lines.append(f"and {len(alerts) - _MOST_LINES} more: ryla alerts")
    return f"[ryla] {worst}: {len(alerts)} more alerts", "\n".join(lines), worst


def _shown(value: Any) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return redacted(text.replace("\n", " "))
