"""When a target is given a rest because most of what it is sent goes wrong there. Pure.

What counts are submit calls, and attempts that have ended: failures of the platform (transient and recoverable ones),
not those that the input or the settings are to blame for, and not a 429, which has its own hold. An open breaker holds
back all submits to its target, retries too, so that they use up nothing. After a pause one job is let through, the
probe. Where it goes well, the breaker closes; else the pause doubles.

That jobs leave a target because no worker comes to them opens its breaker at once: that verdict took minutes already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ryla_tasks.errors import Category, ProviderError, RateLimited
from ryla_tasks.jobs import verdict
from ryla_tasks.jobs.observation import NotAccepted, Observation, OutcomeUnknown, Seen
from ryla_tasks.jobs.remote import RemoteStatus

__all__ = ["CLOSED", "DOWN", "HELD", "Breaker", "Call", "Outcome", "Rule", "judged", "outcome_of"]

#: What is told to those whose jobs are held back.
HELD = "The GPU endpoint has trouble; waiting"
DOWN = "The GPU endpoint is down; waiting to try again"

#: The longest pause between two probes, in seconds.
PAUSE_MAX_S = 300.0

#: The first pause of a target that no worker comes to: a probe there costs its user minutes.
STUCK_PAUSE_S = 60.0

_PLATFORM = frozenset({Category.TRANSIENT, Category.RECOVERABLE})


class Call(StrEnum):
    """What went well or wrong: the call that submits, the attempt that follows, or its wait for a GPU worker."""

    RUN = "run"
    ATTEMPT = "attempt"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one of them went."""

    call: Call
    bad: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """Open when of the last `calls` outcomes of a sort, those within `window_s` seconds and at least ten, more than the
    share `failures` is bad. The first pause is `pause_s`. A share of 1 is never exceeded."""

    failures: float = 0.5
    calls: int = 20
    window_s: float = 300.0
    pause_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """A target's breaker as it stands. Times are seconds by the clock of Redis.

    `opened` is 0 while it is closed. No call before `until`; then one is let through, and `until` moves on by the
    pause. `probe` says how it went, as far as that is known. `recent` are outcomes, newest first: when, and bad or not.
    """

    opened: float = 0.0
    until: float = 0.0
    pause_s: float = 0.0
    why: Call = Call.RUN
    probe: tuple[Outcome, ...] = ()
    recent: tuple[tuple[Call, tuple[tuple[float, bool], ...]], ...] = ()

    @property
    def is_open(self) -> bool:
        return self.opened > 0


CLOSED = Breaker()

#: With fewer outcomes than this nothing is said of a target.
_FEWEST = 10


def outcome_of(observation: Observation) -> Outcome | None:
    """What an observation says of its target; None where it says nothing, or nothing that is the platform's doing."""
    match observation:
        case NotAccepted(error) | OutcomeUnknown(error):
            return Outcome(Call.RUN, bad=True) if _is_platforms(error) else None
        case Seen(job) if job.status is RemoteStatus.COMPLETED:
            return Outcome(Call.ATTEMPT, bad=False)
        case Seen(job) if job.status is RemoteStatus.FAILED:
            return Outcome(Call.ATTEMPT, bad=verdict.may_pass(verdict.remote_failure(job)))
        case Seen(job) if job.status is RemoteStatus.TIMED_OUT:
            return Outcome(Call.ATTEMPT, bad=verdict.may_pass(verdict.remote_time_out(job)))
        case _:
            return None


def judged(breaker: Breaker, now: float, rule: Rule) -> Breaker:
    """The breaker as it should stand: opened, closed, its pause doubled, or as it was."""
    if not breaker.is_open:
        for call, outcomes in breaker.recent:
            if call is Call.WAIT and any(bad and now - at <= rule.window_s for at, bad in outcomes):
                pause_s = max(rule.pause_s, STUCK_PAUSE_S)
                return replace(breaker, opened=now, until=now + pause_s, pause_s=pause_s, why=call, probe=())
            if _too_many(outcomes, now, rule):
                return replace(breaker, opened=now, until=now + rule.pause_s, pause_s=rule.pause_s, why=call, probe=())
        return breaker
    if any(outcome.bad for outcome in breaker.probe):
        pause_s = min(2 * breaker.pause_s, PAUSE_MAX_S)
        return replace(breaker, until=now + pause_s, pause_s=pause_s, probe=())
    # That a job was taken says nothing where those that were taken went wrong.
    if any(outcome.call in (breaker.why, Call.ATTEMPT) for outcome in breaker.probe):
        return CLOSED
    return breaker


def _too_many(outcomes: Sequence[tuple[float, bool]], now: float, rule: Rule) -> bool:
    late = [bad for at, bad in outcomes[: rule.calls] if now - at <= rule.window_s]
    return len(late) >= _FEWEST and sum(late) > rule.failures * len(late)


def _is_platforms(error: ProviderError | None) -> bool:
    return error is not None and error.category in _PLATFORM and not isinstance(error, RateLimited)
