"""The buckets of all histograms, in this place alone: the operations in Redis get them from here."""

from __future__ import annotations

__all__ = ["BUCKETS", "buckets_in_lua"]

#: By histogram: the upper bounds of its buckets in seconds; above the last there is `+Inf`. Bounds may be changed at
#: any time, but what was counted under one that is gone then counts in the next one above it.
BUCKETS: dict[str, tuple[float, ...]] = {
    # From a warm image of a second to a training of hours.
    "run": (1, 2.5, 5, 10, 15, 20, 30, 45, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800),
    "job": (1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400),
    # The worst start seen took eight minutes.
    "cold_start": (1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 480, 900, 1800),
    "queue_wait": (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
    "line_wait": (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
    # 15 s is what a poll may be late after a crash.
    "poll_lateness": (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 300),
    "limiter_wait": (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
}


def buckets_in_lua() -> str:
    """The bounds as a table for the operations, as texts: they are parts of the names under which is counted."""
    lines = (f"  {name} = {{{', '.join(repr(f'{bound:g}') for bound in bounds)}}}," for name, bounds in BUCKETS.items())
    return "local BUCKETS = {\n" + "\n".join(lines) + "\n}\n"
