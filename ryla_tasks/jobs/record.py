"""The record of a job: what was asked (`JobSpec`, never changes) and how it stands (`JobRecord`).

Both are plain values. The store keeps a spec and an `Observed` as one JSON string each, so that a poll reads and
writes two fields and no more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from ryla_tasks.jobs.alternative import Alternative
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.money import NO_MONEY, Money
from ryla_tasks.jobs.plain_json import dumps
from ryla_tasks.jobs.states import Priority, State

__all__ = ["CancelReason", "JobRecord", "JobSpec", "Observed", "OnUnknown"]


class OnUnknown(StrEnum):
    """What to do when the answer to a submit is lost, so that nobody knows whether a GPU works on the job.

    FAIL ends the job with `SubmitOutcomeUnknown` at once. WAIT gives a webhook, or a GPU worker that calls it, until
    the job's ttl to name the remote job, and ends it then. RESUBMIT waits until a job that had been taken would be over
    (the worst cold start and the execution time-out), and submits again. Under WAIT and FAIL nothing is ever submitted
    twice; under RESUBMIT there is at most one start too many for each lost answer, and it is counted.
    """

    FAIL = "fail"
    WAIT = "wait"
    RESUBMIT = "resubmit"


class CancelReason(StrEnum):
    """Who wants the job to stop. It decides the end: a passed deadline is `timed_out`, a budget that is used up
    `failed`, the others `cancelled`."""

    USER = "user"
    REVOKED = "revoked"
    DEADLINE = "deadline"
    BUDGET = "budget"

    @property
    def end(self) -> State:
        return _CANCEL_ENDS.get(self, State.CANCELLED)


_CANCEL_ENDS = {CancelReason.DEADLINE: State.TIMED_OUT, CancelReason.BUDGET: State.FAILED}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What was asked for. Times are seconds. Nothing here changes after the job is accepted, but by a fallback.

    `fallbacks` are those that the job may still take, in their order. The one it takes puts its own `seed`, `label`,
    `expected_images` and `expected_run_s` here, so that these are always those of the present input.

    A sheet has `cells`, by name, of which `kept` were made for the sheet that it `resumes`; at least `min_cells` must
    have an image in the end. A cell is a job with the id of its `sheet`, and its name there.
    """

    task: str
    kind: str
    endpoint: str
    user_id: str = ""
    tags: tuple[str, ...] = ()
    priority: Priority = Priority.NORMAL
    idempotency_key: str = ""
    deadline_s: float | None = None
    on_unknown: OnUnknown = OnUnknown.FAIL
    max_retries: int = 3
    backoff_s: float = 1.0
    backoff_max_s: float = 16.0
    jitter: bool = True
    execution_timeout_s: float = 600.0
    ttl_s: float = 86_400.0
    poll_min_s: float = 1.0
    poll_max_s: float = 15.0
    retention_s: float = 7 * 86_400.0
    expected_run_s: float = 15.0
    price_per_s: float = 0.0
    webhook: bool = False
    #: The targets that have the models it needs; empty where all have.
    only: tuple[str, ...] = ()
    expected_images: int | None = None
    seed: int | None = None
    label: str = ""
    #: Nobody asks Celery for the result: what would be kept there for a job under way would stay for good.
    ignore_result: bool = False
    fallbacks: tuple[Alternative, ...] = ()
    #: The most that the job may cost, in dollars.
    max_cost_usd: float | None = None
    cells: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    min_cells: int = 1
    resumes: str = ""
    sheet: str = ""
    cell: str = ""
    #: The result says of which seed each image came.
    list_seeds: bool = False
    #: The ended job that this one was made after.
    retry_of: str = ""

    def to_json(self) -> str:
        """As JSON, without what equals the default."""
        return dumps(
            {name: getattr(self, name) for name, default in _SPEC_DEFAULTS if getattr(self, name) != default},
            default=Alternative.to_json,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; fields of a newer version are ignored."""
        raw = json.loads(text)
        known = {name: raw[name] for name in raw.keys() & _SPEC_NAMES}
        if "fallbacks" in known:
            known["fallbacks"] = tuple(Alternative.of(kept) for kept in known["fallbacks"])
        for name in ("tags", "only", "cells", "kept"):
            if name in known:
                known[name] = tuple(known[name])
        known["priority"] = Priority(known.get("priority", Priority.NORMAL))
        known["on_unknown"] = OnUnknown(known.get("on_unknown", OnUnknown.FAIL))
        return cls(**known)


_SPEC_DEFAULTS = tuple((f.name, f.default) for f in fields(JobSpec))
_SPEC_NAMES = frozenset(name for name, _ in _SPEC_DEFAULTS)


@dataclass(frozen=True, slots=True)
class Observed:
    """What the polls of one attempt have seen so far. Times are seconds unless they say `_ms`.

    `banked_ms` is the execution time of runs that the platform broke off and dispatched again: it is paid for too. What
    earlier attempts have cost stands in the record's `money`.
    `asked` is when the target's health was asked that the phase came from, `waiting` what to tell while it waits at the
    cloud, `starts_at` when it is likely to run and `run_s` for how long, both from its target's history and 0 where
    that is too short; `stuck` is the cause for which no worker can come; `cold` says that it has met a cold start.
    `seen_at` is when the cloud last knew the job, give or take five minutes. `crashes` and `recoveries` go on from
    attempt to attempt: how many GPU workers broke off, and how many attempts followed a recoverable failure. `leaving`
    is the cause for which it was to be withdrawn from its target, to go to another.
    """

    percent: float = 0.0
    message: str = ""
    step: int | None = None
    steps: int | None = None
    node: str = ""
    status: str = ""
    worker_id: str = ""
    dispatches: int = 0
    delay_ms: int | None = None
    execution_ms: int | None = None
    banked_ms: int = 0
    running_since: float = 0.0
    missing_since: float = 0.0
    seen_at: float = 0.0
    troubles: int = 0
    trouble: str = ""
    asked: float = 0.0
    waiting: str = ""
    stuck: str = ""
    cold: bool = False
    starts_at: float = 0.0
    run_s: float = 0.0
    crashes: int = 0
    recoveries: int = 0
    leaving: str = ""

    def to_json(self) -> str:
        """As JSON, without what equals the default."""
        return json.dumps(
            {name: getattr(self, name) for name, default in _OBSERVED_DEFAULTS if getattr(self, name) != default},
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; fields of a newer version are ignored."""
        if not text or text in (b"{}", "{}"):
            return cls()
        raw = json.loads(text)
        return cls(**{name: raw[name] for name in raw.keys() & _OBSERVED_NAMES})


_OBSERVED_DEFAULTS = tuple((f.name, f.default) for f in fields(Observed))
_OBSERVED_NAMES = frozenset(name for name, _ in _OBSERVED_DEFAULTS)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands. Times are seconds since the epoch by the clock of Redis, 0 where not yet.

    `attempt` counts submits, from 1; `retries` counts those made because an earlier one failed, since the last of the
    `fallbacks`, which are those taken so far.
    `unanswered` names attempts that were made again because their submit's answer was lost, with their targets;
    `watched` is until when somebody follows the job's progress. `ending` is set at
    an end, and is either a result or a described error (see `ryla_tasks.jobs.ending`). `money` is what the job has
    cost, and may yet cost.
    """

    job_id: str
    spec: JobSpec
    state: State = State.QUEUED
    attempt: int = 0
    retries: int = 0
    target: str = ""
    remote_id: str = ""
    correlation_id: str = ""
    cancel: CancelReason | None = None
    observed: Observed = field(default_factory=Observed)
    created: float = 0.0
    submitted: float = 0.0
    ended: float = 0.0
    deliveries: int = 0
    delivered: float = 0.0
    alias_of: str = ""
    unanswered: tuple[tuple[int, str], ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    watched: float = 0.0
    ending: dict[str, Any] | None = None
    money: Money = NO_MONEY

    @property
    def left(self) -> tuple[tuple[str, str], ...]:
        """The targets that the job has left for another, each with the reason."""
        return tuple((line.source, line.why) for line in self.fallbacks if line.kind is FallbackKind.ENDPOINT)

    def with_(self, **changes: Any) -> JobRecord:
        """A copy with some fields changed."""
        return replace(self, **changes)
