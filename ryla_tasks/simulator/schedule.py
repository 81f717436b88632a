"""What will happen at an endpoint, in the order of time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

__all__ = ["Schedule", "Subject"]

_COMPACT_ABOVE = 1024


class Subject(Protocol):
    """What an event is about. Raising `generation` voids the events that were set before."""

    generation: int


class Schedule:
    """A heap of future events, with no timers: somebody asks for what is due.

    Events are handled at their own time, however late one asks, so the simulation does not depend on how busy the
    process is. `on_earlier` hears of each event that became the next one.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[Any, float], None], Any, int]] = []
        self._sequence = 0
        self._compact_at = _COMPACT_ABOVE
        self.on_earlier: Callable[[float], None] = lambda _: None

    def at(self, time: float, action: Callable[[Any, float], None], subject: Subject) -> None:
        """Call `action(subject, time)` at `time`, unless the subject's generation has changed by then."""
        self._sequence += 1
        heappush(self._heap, (time, self._sequence, action, subject, subject.generation))
        if len(self._heap) > self._compact_at:
            self._compact()
        if self._heap[0][1] == self._sequence:
            self.on_earlier(time)

    def pop_due(self, now: float) -> tuple[float, Callable[[Any, float], None], Any] | None:
        """Take the next live event that is due."""
        while self._heap and self._heap[0][0] <= now:
            time, _, action, subject, generation = heappop(self._heap)
            if subject.generation == generation:
                return time, action, subject
        return None

    def __len__(self) -> int:
        return len(self._heap)

    def due(self, now: float) -> bool:
        """Whether something may be due; cheap."""
        return bool(self._heap) and self._heap[0][0] <= now

    @property
    def next_at(self) -> float | None:
        """When the next event is set for; it may prove void."""
        return self._heap[0][0] if self._heap else None

    def _compact(self) -> None:
        # Voided events (a ttl of a day, say) would otherwise keep ended jobs in memory until their time comes.
        self._heap = [event for event in self._heap if event[3].generation == event[4]]
        heapify(self._heap)
        self._compact_at = max(_COMPACT_ABOVE, 2 * len(self._heap))
