"""What a target's /health said, as the whole fleet remembers it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Health"]


@dataclass(frozen=True, slots=True)
class Health:
    """Counts of jobs and workers. `at` is when they were asked for, in seconds by the clock of Redis.

    The counts of workers overlap (an idle worker is also ready, as captured live), so they are never added up.
    """

    at: float
    jobs: Mapping[str, int] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Some worker is there to take a job, now or after the one it has."""
        return self._any("ready", "idle", "running") or self.jobs.get("inProgress", 0) > 0

    @property
    def starting(self) -> bool:
        """A worker is on its way, and none is up."""
        return not self.up and self._any("initializing")

    @property
    def queued(self) -> int:
        """Jobs that wait at the target, whoever sent them."""
        return self.jobs.get("inQueue", 0)

    def has(self, state: str) -> bool:
        """Whether there is a worker in this state."""
        return self._any(state)

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "jobs": dict(self.jobs), "workers": dict(self.workers)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(raw["at"], raw["jobs"], raw["workers"])

    def _any(self, *states: str) -> bool:
        return any(self.workers.get(state, 0) > 0 for state in states)
