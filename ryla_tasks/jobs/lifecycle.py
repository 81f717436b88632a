"""What an observation makes of a job. Pure: no I/O, no clock, no chance but what is passed in.

`advance(record, observation, now, ...)` returns a `Decision`: the record as it then stands, which step comes next and
in how many seconds, and the event to tell. The engine carries decisions out under a fence; whatever happens twice or
late is refused there, so that this page may reason as if every observation came once and in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ryla_tasks.errors import (
    Category,
    EndpointNotFound,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobTimedOut,
    MalformedAnswer,
    OutputInvalid,
    ProviderError,
)
from ryla_tasks.jobs import verdict
from ryla_tasks.jobs.absence import REMOTE_RETENTION_S, absence_details, absence_of, endpoint_absence_of
from ryla_tasks.jobs.attempts import MOST_CRASHES, crashes_with, worth_another
from ryla_tasks.jobs.backoff import retry_delay
from ryla_tasks.jobs.breaker import Call, Outcome, outcome_of
from ryla_tasks.jobs.budget import Ceiling, stopped
from ryla_tasks.jobs.cost import ColdStart, Reckoning, ran_ms, reckoned
from ryla_tasks.jobs.ending import described, result_ending
from ryla_tasks.jobs.failover import is_the_targets, moved, withdrawn
from ryla_tasks.jobs.falling_back import alternative_for, fallen_back, told_of_the_first
from ryla_tasks.jobs.observation import (
    Collected,
    Missing,
    NoAnswer,
    NotAccepted,
    Observation,
    OutcomeUnknown,
    OutputBad,
    Seen,
    StillUnknown,
    Trouble,
    Uncollected,
)
from ryla_tasks.jobs.phases import NOTHING_KNOWN, Outlook, phase_of, waits
from ryla_tasks.jobs.planner import next_gap
from ryla_tasks.jobs.progress import advanced, read_report
from ryla_tasks.jobs.record import CancelReason, JobRecord, Observed, OnUnknown
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.runs import known, restarted
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.verdicts import Absence

__all__ = [
    "Collected",
    "Decision",
    "Missing",
    "NoAnswer",
    "NotAccepted",
    "Observation",
    "OutcomeUnknown",
    "OutputBad",
    "Seen",
    "Step",
    "StillUnknown",
    "Surroundings",
    "Trouble",
    "Uncollected",
    "advance",
    "cancelled_ending",
]

#: The longest cold start that was seen in production.
WORST_COLD_START_S = 480.0

#: A status call's Retry-After is obeyed up to here: looked at later, a job's result might be gone.
_LONGEST_HOLD_S = REMOTE_RETENTION_S / 2

_RESTARTED = "Restarted on another GPU"

#: How often the collection of a finished job's output is tried; with the growing gaps, about 50 minutes.
_COLLECT_TRIES = 16
_COLLECT_GAP_MAX_S = 300.0

#: How many status calls in a row may fail before a job that is to stop ends all the same; about a minute.
_STOP_TRIES = 8

#: How many answers in a row may be unreadable; some minutes.
_MALFORMED_TRIES = 24


class Step(StrEnum):
    """Which message takes the job on. SPREAD has the cells of a sheet made."""

    SUBMIT = "submit"
    POLL = "poll"
    DELIVER = "deliver"
    SPREAD = "spread"


def _never(_error: Exception) -> bool:
    return False


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a decision depends on besides the job: the fleet at its target, the task's retry rule, chance, and what is
    known of the target. `may_retry` says that the task lists the error, `may_resubmit` that it leaves the decision on a
    failed remote job to the verdict. `elsewhere` is a target that the job might go to instead, empty where none is."""

    in_flight: int = 1
    calls_per_s: float = 200.0
    may_retry: Callable[[Exception], bool] = _never
    draw: Callable[[float, float], float] = _middle
    outlook: Outlook = NOTHING_KNOWN
    may_resubmit: Callable[[Exception], bool] = _never
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a job. `event` is the type of the event to tell, empty where nothing is worth telling.

    `output` is the remote output to keep until it is collected; `outcome` what the observation says of the target.
    `orphaned` says that the remote job may go on without its job, and has to be cancelled. `withdraw` says that the
    remote job is to be cancelled because its job goes elsewhere, or (False) not any more. `fallback_input` is where,
    among the job's other inputs, the one lies that takes its input's place. `start` is a worker's start that may count
    in the job's cost; `over` says that the job costs more than it may, and is to be stopped. `ran_ms` is the execution
    time of all runs of the attempt that ends here, where that is known; `assumed`, that nobody knows what it has cost.
    """

    record: JobRecord
    step: Step
    in_s: float = 0.0
    event: str = ""
    output: Any = None
    outcome: Outcome | None = None
    orphaned: bool = False
    withdraw: bool | None = None
    fallback_input: int | None = None
    start: ColdStart | None = None
    over: bool = False
    ran_ms: int | None = None
    assumed: bool = False


def advance(record: JobRecord, observation: Observation, now: float, around: Surroundings) -> Decision:
    """What an observation makes of a job.

    The record must be one that waits for such an observation; an ended record comes back unchanged.
    """
    if record.state.ended:
        return Decision(record, Step.DELIVER)
    decision = _decided(record, observation, now, around)
    outcome = Outcome(Call.WAIT, bad=True) if decision.withdraw else outcome_of(observation)
    decision = decision if outcome is None else replace(decision, outcome=outcome)
    if decision.record.state.ended or decision.record.state is State.QUEUED:
        decision = replace(decision, ran_ms=ran_ms(record, observation, now))
    return _reckoned(record, observation, decision, now) if record.money.is_kept else decision


def _reckoned(before: JobRecord, observation: Observation, decision: Decision, now: float) -> Decision:
    """The decision with what it means for the job's money."""
    found = reckoned(before, observation, decision.record, now)
    if found == Reckoning(before.money):
        return decision
    return replace(
        decision,
        record=decision.record.with_(money=found.money),
        start=found.start,
        over=found.over,
        assumed=found.assumed,
    )


def _decided(record: JobRecord, observation: Observation, now: float, around: Surroundings) -> Decision:
    match observation:
        case Seen(job):
            return _seen(record, job, now, around)
        case Missing():
            return _missing(record, now, around)
        case NoAnswer():
            return _no_answer(record, now, around)
        case Trouble(error):
            return _trouble(record, error, now, around)
        case NotAccepted(error):
            return _refused(record, error, now, around)
        case OutcomeUnknown(error):
            return _unknown(record, error, now)
        case StillUnknown():
            return _still_unknown(record, now)
        case Collected(result):
            return _completed(record, result, now)
        case OutputBad(error):
            return _retry_or_end(record, error, error, now, around)
        case Uncollected(reason):
            return _uncollected(record, reason, now)


def _refused(record: JobRecord, error: ProviderError, now: float, around: Surroundings) -> Decision:
    """The endpoint surely did not take the job. When it has been asked often enough, another target may be, and only
    then another input: it is not to blame."""
    failed = verdict.submit_refused(error)
    decision = _retry_or_end(record, failed, error, now, around)
    over = decision.record.state.ended or decision.fallback_input is not None
    if not over or record.cancel or not around.elsewhere or not is_the_targets(error):
        return decision
    return _moved(record, str(failed.info["code"]))


def _moved(record: JobRecord, why: str) -> Decision:
    return Decision(moved(record, why), Step.SUBMIT, event="failover")


def _unknown(record: JobRecord, error: ProviderError | None, now: float) -> Decision:
    """The answer to a submit is lost: the job's policy decides. Nothing is submitted again before it must be over."""
    spec = record.spec
    if record.cancel or spec.on_unknown is OnUnknown.FAIL:
        return _end(record, verdict.submit_unknown(error), now)
    over = spec.ttl_s if spec.on_unknown is OnUnknown.WAIT else WORST_COLD_START_S + spec.execution_timeout_s
    observed = replace(record.observed, message="", trouble=type(error).__name__ if error else "WorkerLost")
    unknown = record.with_(state=State.UNKNOWN, observed=observed)
    return Decision(unknown, Step.SUBMIT, min(over, spec.ttl_s), "state")


def _still_unknown(record: JobRecord, now: float) -> Decision:
    if record.cancel or record.spec.on_unknown is not OnUnknown.RESUBMIT:
        return _end(record, verdict.submit_unknown(None), now)
    unanswered = (*record.unanswered, (record.attempt, record.target))
    return Decision(record.with_(state=State.QUEUED, unanswered=unanswered), Step.SUBMIT, 0.0, "resubmit")


def cancelled(record: JobRecord) -> JobError:
    """The error that a wanted stop ends with."""
    return _CANCELLED[record.cancel or CancelReason.USER]


def cancelled_ending(reason: CancelReason) -> dict[str, Any]:
    """The end of a job that was stopped for `reason` before any GPU had it."""
    return described(_CANCELLED[reason])


def _cancel_error(kind: type[JobError], message: str, code: str) -> JobError:
    return kind(message, {"code": code, "category": str(Category.PERMANENT), "details": None})


_CANCELLED = {
    CancelReason.USER: _cancel_error(JobCancelled, "The job was cancelled.", "cancelled"),
    CancelReason.REVOKED: _cancel_error(JobCancelled, "The job was revoked.", "revoked"),
    CancelReason.DEADLINE: _cancel_error(JobTimedOut, "The job was not done in time.", "deadline"),
    CancelReason.BUDGET: stopped(Ceiling.JOB),
}


def _seen(record: JobRecord, job: RemoteJob, now: float, around: Surroundings) -> Decision:
    if job.truncated:
        return _collect(record, job, now)
    match job.status:
        case RemoteStatus.COMPLETED:
            return _collect(record, job, now)
        case RemoteStatus.FAILED:
            error = verdict.remote_failure(job)
            return _retry_or_end(_billed(record, job, now), error, error, now, around)
        case RemoteStatus.TIMED_OUT:
            error = verdict.remote_time_out(job)
            return _retry_or_end(_billed(record, job, now), error, error, now, around)
        case RemoteStatus.CANCELLED if record.observed.leaving and not record.cancel:
            return _moved(record, record.observed.leaving)
        case RemoteStatus.CANCELLED:
            return _end(_billed(record, job, now), verdict.remote_cancelled(job), now)
        case _:
            return _under_way(record, job, now, around)


def _under_way(record: JobRecord, job: RemoteJob, now: float, around: Surroundings) -> Decision:
    """Queued or running at the cloud, or a status that is not known here and so no end."""
    again = restarted(record.observed, job)
    observed = known(record.observed, job, now)
    if job.status is RemoteStatus.IN_PROGRESS:
        observed = advanced(observed, read_report(job.output))
        observed = replace(observed, running_since=observed.running_since or now)
    if again:
        # What it waits for now is told by the next look, so that each has its own event.
        observed = replace(observed, message=_RESTARTED, cold=False, asked=0.0, waiting="", stuck="", starts_at=0.0)
    state = phase_of(record, job, around.outlook, now)
    if job.status is not RemoteStatus.OTHER and not again:
        observed = waits(observed, record, state, around.outlook, now)
    observed, withdraw = withdrawn(record, job, observed, around.elsewhere)
    event = _telling(record, state, observed, again=again)
    return replace(_again(record.with_(state=state, observed=observed), now, around, event), withdraw=withdraw)


def _telling(record: JobRecord, state: State, observed: Observed, *, again: bool) -> str:
    if again:
        return "restarted"
    before = record.observed
    if observed.stuck and observed.stuck != before.stuck:
        return "stuck"
    if state is not record.state:
        return "state"
    told = (observed.percent, observed.message, observed.step, observed.waiting)
    return "" if told == (before.percent, before.message, before.step, before.waiting) else "progress"


def _missing(record: JobRecord, now: float, around: Surroundings) -> Decision:
    if absence_of(record, now) is Absence.JUST_MADE:
        return _again(record, now, around)
    observed = record.observed
    # Where the endpoint itself was not found until now, that says nothing of the job.
    since = now if observed.trouble == EndpointNotFound.__name__ else observed.missing_since or now
    record = record.with_(observed=replace(observed, missing_since=since, troubles=0, trouble=""))
    return _absent(record, absence_of(record, now), now, around)


def _absent(record: JobRecord, why: Absence, now: float, around: Surroundings) -> Decision:
    if why.may_pass:
        return _again(record, now, around)
    return _end(record, verdict.absent(why, absence_details(record, now)), now)


def _given_up(record: JobRecord, error: ProviderError | None, now: float) -> Decision | None:
    """The end of a job about which the endpoint says nothing useful, if it has said so often enough.

    One that is to stop does not wait for an endpoint in trouble: its remote job is left behind as an orphan, to be
    cancelled as soon as that can be done. And an answer that can never be read is as good as none.
    """
    tries = record.observed.troubles + 1
    if record.cancel and tries >= _STOP_TRIES:
        return replace(_end(record, cancelled(record), now), orphaned=bool(record.remote_id))
    if isinstance(error, MalformedAnswer) and tries >= _MALFORMED_TRIES:
        message = "The GPU endpoint's answer cannot be read."
        failed = _error(OutputInvalid, message, "malformed_answer", Category.RECOVERABLE, {"error": str(error)})
        return replace(_end(record, failed, now), orphaned=bool(record.remote_id))
    return None


def _no_answer(record: JobRecord, now: float, around: Surroundings) -> Decision:
    if not record.cancel:
        return _again(record, now, around)
    given_up = _given_up(record, None, now)
    observed = replace(record.observed, troubles=record.observed.troubles + 1, trouble=NoAnswer.__name__)
    return given_up or _again(record.with_(observed=observed), now, around)


def _trouble(record: JobRecord, error: ProviderError, now: float, around: Surroundings) -> Decision:
    if given_up := _given_up(record, error, now):
        return given_up
    gone, before = isinstance(error, EndpointNotFound), record.observed
    since = 0.0 if before.trouble == EndpointNotFound.__name__ and not gone else before.missing_since
    observed = replace(
        before,
        troubles=before.troubles + 1,
        trouble=type(error).__name__,
        missing_since=since or (now if gone else 0.0),
    )
    record = record.with_(observed=observed)
    why = endpoint_absence_of(record, now) if gone else Absence.VANISHED
    decision = _absent(record, why, now, around)
    if error.retry_after is None or decision.record.state.ended:
        return decision
    return replace(decision, in_s=max(decision.in_s, min(error.retry_after, _LONGEST_HOLD_S)))


def _again(record: JobRecord, now: float, around: Surroundings, event: str = "") -> Decision:
    """Look again later; but a job that has outlived even its ttl and its result's retention is over."""
    if now - record.submitted > record.spec.ttl_s + REMOTE_RETENTION_S:
        return _end(record, verdict.absent(Absence.TTL, absence_details(record, now)), now)
    gap = next_gap(record, now, in_flight=around.in_flight, calls_per_s=around.calls_per_s)
    return Decision(record, Step.POLL, gap, event)


def _collect(record: JobRecord, job: RemoteJob, now: float) -> Decision:
    observed = replace(known(record.observed, job, now), message="")
    return Decision(
        record.with_(state=State.COLLECTING, observed=observed),
        Step.DELIVER,
        event="state" if record.state is not State.COLLECTING else "",
        output=None if job.truncated else job.output,
    )


def _completed(record: JobRecord, result: dict[str, Any], now: float) -> Decision:
    observed = replace(record.observed, percent=100.0, message="")
    record = record.with_(state=State.COMPLETED, observed=observed, ended=now, ending=result_ending(result))
    return Decision(record, Step.DELIVER, event="state")


def _uncollected(record: JobRecord, reason: str, now: float) -> Decision:
    tries, reason = record.observed.troubles + 1, redacted(reason)
    record = record.with_(observed=replace(record.observed, troubles=tries, trouble=reason))
    if tries < _COLLECT_TRIES:
        return Decision(record, Step.DELIVER, min(2.0**tries, _COLLECT_GAP_MAX_S))
    message = "The job was done, but its result could not be fetched and stored."
    error = _error(JobFailed, message, "uncollected", Category.RECOVERABLE, {"reason": reason, "tries": tries})
    return _end(record, error, now)


def _retry_or_end(record: JobRecord, error: JobError, cause: Exception, now: float, around: Surroundings) -> Decision:
    """Try again with a new attempt where the task's rule, or else the verdict, allows it, within the budget, and nobody
    wants the job to stop; else with a fallback, if there is one that helps."""
    crashes = crashes_with(record, error)
    if crashes >= MOST_CRASHES and verdict.is_crash(error):
        return _fall_back_or_end(record, verdict.poison_input(error, crashes), crashes, now)
    if not _may_try_again(record, error, cause, around):
        return _fall_back_or_end(record, error, crashes, now)
    retry_after = cause.retry_after if isinstance(cause, ProviderError) else None
    delay = retry_delay(record.spec, record.retries, retry_after=retry_after, draw=around.draw)
    observed = Observed(
        message=f"Trying again in {max(1, round(delay))} s",
        trouble=type(cause).__name__,
        crashes=crashes,
        recoveries=record.observed.recoveries + (error.category is Category.RECOVERABLE),
    )
    record = record.with_(
        state=State.QUEUED, retries=record.retries + 1, observed=observed, remote_id="", submitted=0.0
    )
    return Decision(record, Step.SUBMIT, delay, "retry")


def _may_try_again(record: JobRecord, error: JobError, cause: Exception, around: Surroundings) -> bool:
    if record.cancel or record.retries >= record.spec.max_retries:
        return False
    if not verdict.may_pass(error) and alternative_for(record, error):
        # The same input would fail again, whatever the task's rule says.
        return False
    return around.may_retry(cause) or (around.may_resubmit(cause) and worth_another(record, cause))


def _fall_back_or_end(record: JobRecord, error: JobError, crashes: int, now: float) -> Decision:
    """Go on with the next fallback that helps against this failure: no retry, and with its own retries before it."""
    found = fallen_back(record, error, crashes)
    if found is None:
        return _end(record, error, now)
    after, place = found
    return Decision(after, Step.SUBMIT, event="fallback", fallback_input=place)


def _billed(record: JobRecord, job: RemoteJob, now: float) -> JobRecord:
    """The record with what an ended remote job reports: its times, and a restart that no poll has seen."""
    return record.with_(observed=known(record.observed, job, now))


def _end(record: JobRecord, error: JobError, now: float) -> Decision:
    """End a job without a result. Where it was to stop anyway, that is how it ended."""
    error = cancelled(record) if record.cancel else told_of_the_first(error, record)
    state = _END_STATES.get(type(error), State.FAILED)
    observed = replace(record.observed, message="")
    record = record.with_(state=state, observed=observed, ended=now, ending=described(error))
    return Decision(record, Step.DELIVER, event="state")


def _error(kind: type[JobError], message: str, code: str, category: Category, details: Any = None) -> JobError:
    return kind(message, {"code": code, "category": str(category), "details": details})


_END_STATES: dict[type[JobError], State] = {
    JobCancelled: State.CANCELLED,
    JobTimedOut: State.TIMED_OUT,
    JobExpired: State.EXPIRED,
}
