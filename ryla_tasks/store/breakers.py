"""The breakers of all targets in Redis. Outcomes are noted by the operations that settle jobs."""

from __future__ import annotations

import redis

from ryla_tasks.jobs.breaker import CLOSED, Breaker, Call, Outcome
from ryla_tasks.store.codec import dumps
from ryla_tasks.store.scripts import Scripts

__all__ = ["BreakerStore"]


class BreakerStore:
    """Breakers in Redis. Safe for use by many threads; every method is one round trip."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._scripts = Scripts(client, prefix)

    def load(self, target: str) -> tuple[Breaker, float]:
        """A target's breaker, and the time by Redis's clock."""
        now, opened, until, pause_ms, why, *rest = self._scripts.call("breaker", target)
        told, recent = rest[: len(Call)], rest[len(Call) :]
        state = CLOSED
        if opened:
            probe = tuple(Outcome(call, word == b"bad") for call, word in zip(Call, told, strict=True) if word)
            state = Breaker(int(opened) / 1e6, int(until) / 1e6, int(pause_ms) / 1e3, Call(why.decode()), probe)
        outcomes = tuple((call, tuple(map(_outcome, texts))) for call, texts in zip(Call, recent, strict=True))
        return Breaker(state.opened, state.until, state.pause_s, state.why, state.probe, outcomes), int(now) / 1e6

    def change(self, target: str, before: Breaker, after: Breaker) -> bool:
        """Open, pause or close a breaker. False where somebody else has changed it since it was loaded."""
        wish = {"target": target, "was": round(before.until * 1e6)}
        if after.is_open:
            wish |= {"until": round(after.until * 1e6), "pause_ms": round(after.pause_s * 1000), "why": str(after.why)}
        return bool(self._scripts.call("change_breaker", dumps(wish)))


def _outcome(text: bytes) -> tuple[float, bool]:
    bad, _, at = text.partition(b" ")
    return int(at) / 1e6, bad == b"1"
