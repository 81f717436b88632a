"""Which work a worker process lets into its slots.

Submits and collections of output call the network and can take long; polls must go on meanwhile. So slow work never
takes the last slot of a process. A slow message that finds no room is not sent round again: its job stays due in the
store, and whoever of the slow work is done next takes it from there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["RideGate", "SlowLane"]


class SlowLane:
    """Admits as much slow work as there are slots but one (at least one). Safe for use by many threads."""

    def __init__(self, slots: int) -> None:
        self._lock = threading.Lock()
        self._most = max(1, slots - 1)
        self._busy = 0
        self._notes = 0
        self._passed_over: dict[str, int] = {}

    def resize(self, slots: int) -> None:
        """The process has this many slots."""
        with self._lock:
            self._most = max(1, slots - 1)

    @contextmanager
    def room(self, place: str) -> Iterator[bool]:
        """Enter with slow work for `place`. False means that there is no room, and that it was noted there is work."""
        with self._lock:
            admitted = self._busy < self._most
            if admitted:
                self._busy += 1
            else:
                self._note(place)
        try:
            yield admitted
        finally:
            if admitted:
                with self._lock:
                    self._busy -= 1

    def pass_over(self, place: str) -> None:
        """Note that there is work at `place` that found no room."""
        with self._lock:
            self._note(place)

    def passed_over(self, place: str) -> int:
        """The number of the latest note that work was passed over at `place`; 0 where there is none."""
        return self._passed_over.get(place, 0)

    def caught_up(self, place: str, note: int) -> None:
        """Nothing was due at `place` any more, looked at after that note. A later one stands."""
        with self._lock:
            if self._passed_over.get(place) == note:
                del self._passed_over[place]

    def _note(self, place: str) -> None:
        self._notes += 1
        self._passed_over[place] = self._notes


class RideGate:
    """At most one ride per target in a process: a second one would only wait for the same calls.

    It also keeps which targets were slow to answer the last time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._riding: set[str] = set()
        self._slow: set[str] = set()

    @contextmanager
    def enter(self, target: str) -> Iterator[bool]:
        """Whether this ride may go; if so, no other does until it is over."""
        with self._lock:
            admitted = target not in self._riding
            if admitted:
                self._riding.add(target)
        try:
            yield admitted
        finally:
            if admitted:
                with self._lock:
                    self._riding.discard(target)

    def is_slow(self, target: str) -> bool:
        """Whether the last ride had to wait for the target."""
        return target in self._slow

    def note(self, target: str, *, slow: bool) -> None:
        """How the last ride went."""
        with self._lock:
            if slow:
                self._slow.add(target)
            else:
                self._slow.discard(target)
