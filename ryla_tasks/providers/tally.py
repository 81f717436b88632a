"""Counting calls to a GPU cloud: in the process as they are made, to be handed on now and then."""

from __future__ import annotations

import threading
from collections import Counter

__all__ = ["REPEATED", "UNANSWERED", "Tally"]

#: Stands for the status code of a call that got no answer, and for a call that was made once more.
UNANSWERED = "none"
REPEATED = "repeated"


class Tally:
    """Calls by endpoint, operation and HTTP status. Safe for use by many threads; what a process dies with is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def note(self, endpoint_id: str, operation: str, how: int | str) -> None:
        """One call, by its status code or one of the words above."""
        with self._lock:
            self._counts[endpoint_id, operation, str(how)] += 1

    def take(self) -> dict[tuple[str, str, str], int]:
        """What was counted since the last time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return dict(counts)

    def put_back(self, counts: dict[tuple[str, str, str], int]) -> None:
        """What was taken could not be handed on."""
        with self._lock:
            self._counts.update(counts)
