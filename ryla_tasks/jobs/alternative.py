"""A fallback that a job may take, as its spec keeps it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ryla_tasks.jobs.fallback import FallbackKind

__all__ = ["Alternative"]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another input for a job, for failures with one of the codes `on`: `to` in place of `source`.

    The input lies at `place` in the list that the store keeps of the job's other inputs. `expected_run_s`,
    `expected_images`, `seed`, `label` and `only` take the place of the spec's own with it. `own` says how many of those
    that come next in the list are this one's own fallbacks: whoever passes it over passes them over too.
    """

    kind: FallbackKind
    source: str
    to: str
    on: tuple[str, ...]
    place: int
    expected_run_s: float
    expected_images: int | None = None
    seed: int | None = None
    label: str = ""
    only: tuple[str, ...] = ()
    own: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; fields of a newer version are ignored."""
        known = {name: kept[name] for name in kept.keys() & set(cls.__slots__)}
        lists = {name: tuple(kept.get(name, ())) for name in ("on", "only")}
        return cls(**{**known, **lists, "kind": FallbackKind(kept["kind"])})
