"""Opening and closing the breakers of targets, after outcomes that may call for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ryla_tasks.errors import StoreError
from ryla_tasks.jobs.breaker import Breaker, Outcome, Rule, judged
from ryla_tasks.logs import Log
from ryla_tasks.store.breakers import BreakerStore
from ryla_tasks.store.targets import TargetStore

__all__ = ["Breakers"]

log = Log(__name__)


class Breakers:
    """The breakers of all targets. Safe for use by many threads; `look` does not raise for want of Redis.

    `on_open` is called with a target when its breaker has been opened here.
    """

    def __init__(
        self,
        store: BreakerStore,
        targets: TargetStore,
        rule: Rule,
        *,
        on_open: Callable[[str], None] = lambda _target: None,
    ) -> None:
        self._store = store
        self._targets = targets
        self._rule = rule
        self._on_open = on_open

    def of(self, target: str) -> tuple[Breaker, float]:
        """A target's breaker, and the time by Redis's clock. Raises `StoreUnavailable`."""
        return self._store.load(target)

    def look(self, target: str, outcomes: Iterable[Outcome | None] = (), *, is_open: bool = False) -> None:
        """Look at a breaker after what was noted at its target: where something went wrong, or it is open."""
        if not is_open and not any(outcome is not None and outcome.bad for outcome in outcomes):
            return
        try:
            before, now = self._store.load(target)
            after = judged(before, now, self._rule)
            if after != before and self._store.change(target, before, after):
                self._tell(target, before, after, now)
                if after.is_open and not before.is_open:
                    self._on_open(target)
        except StoreError as error:
            log.warning("breaker.not_judged", target=target, error=error)

    def _tell(self, target: str, before: Breaker, after: Breaker, now: float) -> None:
        if not after.is_open:
            log.warning("breaker.closed", target=target, for_s=round(now - before.opened))
        elif before.is_open:
            log.warning("breaker.probe_failed", target=target, pause_s=round(after.pause_s))
            return
        else:
            log.warning("breaker.open", target=target, why=after.why, pause_s=round(after.pause_s))
        kind = "breaker_open" if after.is_open else "breaker_closed"
        self._targets.alert(f"{kind}:{target}:{now:.0f}", {"type": kind, "target": target}, quiet_s=1.0)
