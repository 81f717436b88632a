"""How long to wait before the next try: Celery's own meaning of `retry_backoff`, in seconds."""

from __future__ import annotations

from collections.abc import Callable

from ryla_tasks.jobs.record import JobSpec

__all__ = ["retry_delay"]


def retry_delay(
    spec: JobSpec, retries: int, *, retry_after: float | None = None, draw: Callable[[float, float], float]
) -> float:
    """Seconds before retry number `retries` (from 0): `backoff * 2**retries`, capped, with full jitter.

    A server's Retry-After is obeyed in full: the delay is never shorter, and the jitter comes on top of it, so that
    many jobs refused together do not come back together. `draw(low, high)` is the source of chance.
    """
    longest = min(spec.backoff_max_s, spec.backoff_s * 2.0 ** min(retries, 30))
    delay = draw(0.0, longest) if spec.jitter else longest
    return delay if retry_after is None else max(delay, retry_after + draw(0.0, spec.backoff_s))
