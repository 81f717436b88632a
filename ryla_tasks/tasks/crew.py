"""Submits side by side, where an endpoint takes its time to answer them.

A slot that makes one POST after the other makes three a second where each takes 0.3 s; the limits allow a hundred. So a
slot that leaves jobs in line calls helpers for the length of its turn: as many as the limit's rate and the time of the
latest submits make necessary. It waits for them, and so does a shutdown.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from ryla_tasks.logs import Log

__all__ = ["Crew", "Turn"]

log = Log(__name__)

#: How many helpers a process has at an endpoint; each is a thread and a connection.
MOST = 32

#: How much the latest submit counts in the time that the next one is expected to take.
_WEIGHT = 0.3


class Crew:
    """The helpers of a process at one endpoint. Safe for use by many threads."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._pool = ThreadPoolExecutor(MOST, thread_name_prefix="ryla-submit")
        self._lock = threading.Lock()
        self._busy = 0
        self._call_s = 0.0

    def note(self, call_s: float) -> None:
        """A submit was answered in so many seconds. One that was not must not be noted: an endpoint that hangs should
        not get more of them at once."""
        with self._lock:
            self._call_s += (_WEIGHT if self._call_s else 1.0) * (call_s - self._call_s)

    @contextmanager
    def turn(self, work: Callable[[], object]) -> Iterator[Turn]:
        """A slot's turn, with helpers that do `work`. Ends when they are done; what they raise is logged."""
        turn = Turn(self, work)
        try:
            yield turn
        finally:
            wait(turn.helpers)

    def start(self, work: Callable[[], object], per_s: float) -> list[Future[None]]:
        """Start the helpers that are missing where `per_s` submits a second may be made; one of all is the slot."""
        with self._lock:
            missing = max(0, min(MOST, math.ceil(per_s * self._call_s) - 1) - self._busy)
            self._busy += missing
        return [self._pool.submit(self._help, work) for _ in range(missing)]

    def _help(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:
            # Its job stays claimed until the lease is over, as when a slot's message fails.
            log.exception("submit.helper_failed", endpoint=self._endpoint)
        finally:
            with self._lock:
                self._busy -= 1


class Turn:
    """A slot's turn at an endpoint."""

    def __init__(self, crew: Crew, work: Callable[[], object]) -> None:
        self._crew = crew
        self._work = work
        self.helpers: list[Future[None]] = []

    def call(self, per_s: float) -> None:
        """There are jobs in line, and `per_s` submits a second may be made: have helpers come if they are needed."""
        self.helpers += self._crew.start(self._work, per_s)
