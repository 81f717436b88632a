"""Runs the checks side by side, each for as long as it may take. One that fails stops no other."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ryla_tasks.doctor import endpoints, fleet, places, redis_server, sharing, software
from ryla_tasks.doctor.finding import Finding, problem
from ryla_tasks.errors import ConfigurationError, RylaError

if TYPE_CHECKING:
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["CHECKS", "Check", "look_over"]

Look = Callable[["Runtime"], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at, and for how many seconds."""

    name: str
    look: Look
    within_s: float = 10.0


CHECKS: tuple[Check, ...] = (
    Check("redis version", redis_server.version),
    Check("redis persistence", redis_server.persistence),
    Check("redis eviction", redis_server.eviction),
    Check("redis memory", redis_server.memory),
    Check("redis latency", redis_server.latency),
    Check("clock", redis_server.clock),
    Check("shared database", sharing.other_apps, 15.0),
    Check("workers", fleet.workers, 15.0),
    Check("alerts", places.alerts),
    Check("endpoints", endpoints.reachable, 20.0),
    Check("endpoint setup", endpoints.setup, 20.0),
    Check("time-outs", endpoints.times),
    Check("artifacts", places.artifacts, 20.0),
    Check("webhook", places.webhook),
    Check("templates", places.templates),
    Check("flower", places.flower),
    Check("versions", software.versions),
)


def look_over(checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """All findings, in the order of the checks; the settings come first, and without them there is nothing else."""
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.tasks.runtime import runtime_of

    try:
        runtime = runtime_of(current_app())
    except ConfigurationError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        wrong = lines[1:] or lines
        return [replace(problem(line, "Correct it."), check="settings") for line in wrong]
    found = [replace(one, check="settings") for one in places.settings(runtime)]
    answers: queue.SimpleQueue[tuple[Check, list[Finding]]] = queue.SimpleQueue()
    for check in checks:
        threading.Thread(target=_run, args=(check, runtime, answers), daemon=True).start()
    by_name: dict[str, list[Finding]] = {}
    end = time.monotonic() + max((check.within_s for check in checks), default=0.0)
    while len(by_name) < len(checks):
        try:
            check, findings = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        by_name[check.name] = findings
    for check in checks:
        late = problem(f"no answer within {check.within_s:g} s", "Something that it asks hangs: see the others.")
        found += [replace(one, check=check.name) for one in by_name.get(check.name, [late])]
    return found


def _run(check: Check, runtime: Runtime, answers: queue.SimpleQueue[tuple[Check, list[Finding]]]) -> None:
    findings: list[Finding] = []
    try:
        findings.extend(check.look(runtime))
    except Exception as error:
        # Whatever it is, it must not hide what the others find.
        what = str(error) if isinstance(error, RylaError) else f"{type(error).__name__}: {error}"
        findings.append(problem(f"could not be looked at: {what}", "Mend what it says, and look again."))
    answers.put((check, findings))
