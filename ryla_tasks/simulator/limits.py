"""Rate limits as RunPod publishes them."""

from __future__ import annotations

from collections import Counter, deque

from .operations import LIMIT_WINDOW_S, LIMITS, Operation

__all__ = ["RateLimiter"]


class RateLimiter:
    """Counts the calls of one endpoint by operation: how many in the last ten (simulated) seconds, how many at once.

    A refused call does not count. How RunPod counts within its ten seconds is not published; this is a sliding window.
    """

    def __init__(self) -> None:
        self._recent: dict[Operation, deque[float]] = {op: deque() for op in LIMITS}
        self._at_once: Counter[Operation] = Counter()

    def enter(self, op: Operation, now: float, worker_quota: int = 0) -> bool:
        """Count a call in, or say no. `worker_quota` lifts the rate where it is above the published base (RunPod
        docs: max(base, running workers x requests per worker))."""
        limit = LIMITS.get(op)
        if limit is None:
            return True
        recent = self._recent[op]
        while recent and recent[0] <= now - LIMIT_WINDOW_S:
            recent.popleft()
        if len(recent) >= max(limit.per_window, worker_quota):
            return False
        if limit.at_once is not None and self._at_once[op] >= limit.at_once:
            return False
        recent.append(now)
        self._at_once[op] += 1
        return True

    def leave(self, op: Operation) -> None:
        """A call that entered has been answered."""
        if op in LIMITS:
            self._at_once[op] -= 1
