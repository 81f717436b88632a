"""What this process knows of the targets that it polls: their health, shared by the fleet, and their history.

/health is asked for by one process at a time, at most once in `ask_every_s` for the whole fleet, and only while a job
waits there. All of it happens beside the rides, on their caller threads: a ride takes what is known by then.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from ryla_tasks.errors import ProviderError, RylaError
from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.phases import NOTHING_KNOWN, Outlook
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.jobs.stats import EndpointStats, Sample, failures
from ryla_tasks.jobs.stuck import Cause, Patience, Watch, judged
from ryla_tasks.logs import Log
from ryla_tasks.providers import EndpointHealth
from ryla_tasks.store.targets import Look, TargetStore
from ryla_tasks.tasks.alerting import HOUR_S, tell_operator

__all__ = ["HEALTH_S", "Outlooks"]

log = Log(__name__)

#: How long a call of /health may take.
HEALTH_S = 2.0

#: A warm worker takes a job sooner than this: nobody asks why the job waits.
_ASK_FROM_S = 2.0

#: How old what this process knows may get while it rides: what the fleet found out, and the history.
_WATCH_S = 2.0
_STATS_S = 30.0

#: An alert is told again only if its cause has been away for this long.
_QUIET_S = 900.0


#: Of fewer attempts than this no share of failures is told.
_ENOUGH = 20


@dataclass(slots=True)
class _Known:
    outlook: Outlook = NOTHING_KNOWN
    looked: float = float("-inf")
    counted: float = float("-inf")
    busy: bool = False


class Outlooks:
    """The outlook of each target. Safe for use by many threads; nothing here raises."""

    def __init__(
        self,
        targets: TargetStore,
        health: Callable[[str], EndpointHealth],
        *,
        ask_every_s: float = 30.0,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        failure_rate: float = 1.0,
        workers_max: Callable[[str], int | None] = lambda _target: None,
    ) -> None:
        self._targets = targets
        self._health = health
        self._ask_every_s = ask_every_s
        self._patience = patience
        self._failure_rate = failure_rate
        self._workers_max = workers_max
        self._lock = threading.Lock()
        self._known: defaultdict[str, _Known] = defaultdict(_Known)

    def of(self, target: str) -> Outlook:
        """What is known by now."""
        with self._lock:
            return self._known[target].outlook

    def refresh(self, target: str, callers: Executor, *, waited_s: float = 0.0) -> None:
        """Have `callers` look at a target, if it is time to. `waited_s` is for how long some job has waited there."""
        with self._lock:
            known, now = self._known[target], time.monotonic()
            stats = now - known.counted >= _STATS_S
            if known.busy or not (stats or (waited_s > 0 and now - known.looked >= _WATCH_S)):
                return
            known.busy, known.looked = True, now
            if stats:
                known.counted = now
        try:
            callers.submit(self._look, target, stats, waited_s >= _ASK_FROM_S)
        except RuntimeError:
            # The process is ending.
            known.busy = False

    def ask(self, target: str) -> None:
        """Have somebody of the fleet ask /health, unless that was done lately: before a retry. Takes up to 2 s; raises
        `StoreError`."""
        look = self._targets.look(target, ask_every_s=self._ask_every_s)
        if look.right:
            self._ask(target, look)

    def _look(self, target: str, stats: bool, ask: bool) -> None:
        known = self._known[target]
        try:
            look = self._targets.look(target, ask_every_s=self._ask_every_s if ask else None, samples=stats)
            watch = self._ask(target, look) if look.right else look.watch
            outlook = replace(known.outlook, watch=watch)
            if look.samples is not None:
                outlook = replace(outlook, stats=EndpointStats.of(look.samples))
                self._judge(target, look.samples, look.now)
            known.outlook = outlook
        except RylaError as error:
            log.warning("outlook.failed", target=target, error=error)
        except Exception:
            log.exception("outlook.broken", target=target)
        finally:
            known.busy = False

    def _ask(self, target: str, look: Look) -> Watch | None:
        """Ask /health by the right that the look has got, and keep what follows. Its time is that of the look, so that
        it never seems newer than it is."""
        seen: Health | str
        try:
            answer = self._health(target)
            seen = Health(look.now, answer.jobs, answer.workers)
        except ProviderError as error:
            seen = redacted(f"{type(error).__name__}: {error}")[:200]
            log.warning("endpoint.health_failed", target=target, error=seen)
        watch = judged(look.watch, seen, look.now, self._patience)
        if not self._targets.record_health(target, look.right, watch):
            return look.watch
        if watch.stuck and watch.cause:
            self._raise(target, watch, watch.cause)
        if watch.error and look.watch is not None and look.watch.error:
            tell_operator(self._targets, "health_failing", target, quiet_s=_QUIET_S, target=target, error=watch.error)
        return watch

    def _judge(self, target: str, samples: Sequence[Sample], now: float) -> None:
        """Have the operator told where too many of an hour's attempts failed."""
        failed, judged = failures(samples, since=now - HOUR_S)
        if judged >= _ENOUGH and failed / judged > self._failure_rate:
            percent = round(100 * failed / judged)
            tell_operator(self._targets, "failure_rate", target, target=target, percent=percent, jobs=judged)

    def _raise(self, target: str, watch: Watch, cause: Cause) -> None:
        """Said at every look for as long as it lasts, and told once: so no crash between two steps can swallow it."""
        health = watch.health or Health(watch.at)
        alert: dict[str, Any] = {
            "type": "stuck",
            "target": target,
            "cause": str(cause),
            "message": cause.advice,
            "since_s": round(watch.at - watch.since),
            "jobs": dict(health.jobs),
            "workers": dict(health.workers),
        }
        if self._targets.alert(f"stuck:{target}:{cause}", alert, quiet_s=_QUIET_S):
            log.warning(
                "endpoint.stuck", target=target, cause=cause, for_s=alert["since_s"], queued=health.queued,
                advice=cause.advice,
            )  # fmt: skip
            if cause is Cause.NO_WORKER and self._workers_max(target) == 0:
                tell_operator(self._targets, "no_workers", target, quiet_s=_QUIET_S, target=target)
