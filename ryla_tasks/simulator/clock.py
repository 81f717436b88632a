"""The one clock of a simulator."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Simulated seconds since the simulator was made.

    Every duration in the simulator is in these seconds; with `time_scale` 10 they pass ten times faster than real
    ones. Nothing else in the package reads the time, so a test that hands in its own `source` owns all of it.
    """

    def __init__(
        self,
        time_scale: float = 1.0,
        source: Callable[[], float] = time.monotonic,
        began: Callable[[], float] = time.time,
    ) -> None:
        self.time_scale = time_scale
        self._source = source
        self._origin = source()
        self._began = began()

    def now(self) -> float:
        """Simulated seconds since this clock was made."""
        return (self._source() - self._origin) * self.time_scale

    def wall(self, seconds: float) -> float:
        """The time of day, in seconds since 1970, of a simulated second."""
        return self._began + seconds / self.time_scale

    def real(self, seconds: float) -> float:
        """How many real seconds so many simulated seconds last."""
        return seconds / self.time_scale
