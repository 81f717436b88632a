"""Whether a worker can still come to the jobs that wait at a target. Pure.

A job in a queue that no worker will ever serve looks like any other: /status says IN_QUEUE for ever, a crash loop
included. /health tells them apart, but not at once: all counts at nought is also how a scale-up begins, and one
throttled worker at an idle endpoint is normal. So a cause must last before it is a verdict, and it takes a queue.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.plain_json import dumps

__all__ = ["Cause", "Patience", "Watch", "cause_of", "judged"]

#: A longer time without a look says nothing of what was between: a cause counts anew.
_LONGEST_GAP_S = 180.0

#: What was stuck when somebody last waited there, and shows a cause again, need not last as long a second time: only
#: longer than the moment of nought workers with which a scale-up begins.
_RELAPSE_S = 60.0


class Cause(StrEnum):
    """Why no worker can come. The words are kept in Redis and in alerts."""

    NO_WORKER = "no_worker"
    THROTTLED = "throttled"
    UNHEALTHY = "unhealthy"

    @property
    def sentence(self) -> str:
        """What to tell the person who waits."""
        return _SENTENCES[self]

    @property
    def advice(self) -> str:
        """What to tell the operator."""
        return _ADVICE[self]


_SENTENCES = {
    Cause.NO_WORKER: "No GPU has come for a long time; the job keeps its place in line",
    Cause.THROTTLED: "No GPU is free at the moment; the job keeps its place in line",
    Cause.UNHEALTHY: "The GPUs do not start at the moment; the job keeps its place in line",
}

_ADVICE = {
    Cause.NO_WORKER: "Jobs wait and there is no worker at all: RunPod has no capacity for this GPU type, or the "
    "endpoint's maximum of workers is 0 (RunPod sets it so after 7 days without a request).",
    Cause.THROTTLED: "Jobs wait and all workers are throttled: their hosts have no free GPU of this type. More GPU "
    "types or data centres for the endpoint help.",
    Cause.UNHEALTHY: "Jobs wait and the workers crash or do not get ready (7 minutes, unless RUNPOD_INIT_TIMEOUT says "
    "more): look at a worker's log in RunPod's console.",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds each cause must last until it is a verdict."""

    without_worker_s: float = 480.0
    unhealthy_s: float = 120.0

    def of(self, cause: Cause) -> float:
        return self.unhealthy_s if cause is Cause.UNHEALTHY else self.without_worker_s


@dataclass(frozen=True, slots=True)
class Watch:
    """What the fleet knows of a target since somebody last waited there. Times are seconds by the clock of Redis.

    `health` is the last answer, `error` why a later question went wrong, `cause` what keeps workers from coming since
    `since`, and `stuck` the verdict on it. `relapse` says that it was stuck before, and no worker has come since.
    """

    at: float
    health: Health | None = None
    error: str = ""
    cause: Cause | None = None
    since: float = 0.0
    stuck: bool = False
    relapse: bool = False

    @property
    def down(self) -> bool:
        """Nothing should be expected of the target now: /health fails, or no worker can come."""
        return self.stuck or bool(self.error)

    @property
    def verdict(self) -> str:
        """In a word: ok, waiting (a cause that does not last yet), stuck: CAUSE, or unreachable."""
        if self.stuck and self.cause:
            return f"stuck: {self.cause}"
        if self.error:
            return "unreachable"
        return f"waiting: {self.cause}" if self.cause else "ok"

    def to_json(self) -> str:
        health = self.health.to_json() if self.health else None
        kept = {"at": self.at, "health": health, "error": self.error, "since": self.since, "stuck": self.stuck}
        return dumps({**kept, "cause": self.cause, "relapse": self.relapse})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(
            at=raw["at"],
            health=Health.from_json(raw["health"]) if raw["health"] else None,
            error=raw["error"],
            cause=Cause(raw["cause"]) if raw["cause"] else None,
            since=raw["since"],
            stuck=raw["stuck"],
            relapse=raw.get("relapse", False),
        )


def cause_of(health: Health) -> Cause | None:
    """What keeps workers from coming, as far as one answer tells; None where nothing does, or nobody waits.

    A worker that starts beside an unhealthy one is the next round of a crash loop.
    """
    if health.up or not health.queued:
        return None
    if health.has("unhealthy"):
        return Cause.UNHEALTHY
    if health.has("initializing"):
        return None
    return Cause.THROTTLED if health.has("throttled") else Cause.NO_WORKER


def judged(before: Watch | None, seen: Health | str, now: float, patience: Patience) -> Watch:
    """The watch after a question to /health: its answer, or the error that it ended with.

    An error clears nothing and proves nothing: what was found before stands.
    """
    if before is None or now - before.at > _LONGEST_GAP_S:
        before = Watch(now, relapse=before is not None and (before.stuck or before.relapse))
    if isinstance(seen, str):
        return replace(before, at=now, error=seen)
    cause = cause_of(seen)
    if before.cause is Cause.UNHEALTHY and seen.starting and seen.queued:
        cause = Cause.UNHEALTHY
    relapse = (before.relapse or before.stuck) and not seen.up
    if cause is None:
        return Watch(now, seen, relapse=relapse)
    alike = before.cause is not None and patience.of(before.cause) == patience.of(cause)
    since = before.since if alike else now
    needed = min(patience.of(cause), _RELAPSE_S) if relapse else patience.of(cause)
    return Watch(now, seen, cause=cause, since=since, stuck=now - since >= needed, relapse=relapse)
