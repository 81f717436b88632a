"""The submit step: claim a queued job, send it to its endpoint once, and record what came of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from celery import Celery
from celery.exceptions import Ignore
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import (
    ConfigurationError,
    InvalidJob,
    ProviderError,
    RateLimited,
    RequestRejected,
    StoreError,
)
from ryla_tasks.jobs.breaker import DOWN, HELD
from ryla_tasks.jobs.lifecycle import (
    Decision,
    NotAccepted,
    Observation,
    OutcomeUnknown,
    Step,
    StillUnknown,
    Surroundings,
    advance,
)
from ryla_tasks.jobs.planner import first_gap
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.logs import Log
from ryla_tasks.providers import Policy, was_not_accepted
from ryla_tasks.store.answers import Accepted, Claim, Refusal, Refused
from ryla_tasks.tasks.budget import heed
from ryla_tasks.tasks.crew import Turn
from ryla_tasks.tasks.messages import hand_on, send_cancel, send_line, send_poll
from ryla_tasks.tasks.outcome import carry_out, may_retry
from ryla_tasks.tasks.poll import LONGEST_HOLD_S
from ryla_tasks.tasks.runtime import Runtime, runtime_of
from ryla_tasks.tasks.telling import tell_job
from ryla_tasks.tasks.webhook_token import webhook_of

if TYPE_CHECKING:
    from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["policy_of", "submit", "submit_line"]

log = Log(__name__)

#: Where in the input an attempt is named. GPU workers ignore it, or use it to call the attempt's webhook.
CORRELATION_KEY = "ryla"

#: The log's words for what became of a submit.
_EVENTS: dict[type[Any], str] = {
    NotAccepted: "submit.not_accepted",
    OutcomeUnknown: "submit.unknown",
    StillUnknown: "submit.still_unknown",
}

#: What is told to a job that is held back.
_TOLD = {Refusal.TROUBLE: HELD, Refusal.DOWN: DOWN}

#: Beyond the call's own time-out: how long a submit may take around its POST before its outcome counts as unknown.
LEASE_MARGIN_S = 15.0

#: How long a message that found due work beside its own goes on with it; then it hands the rest on to another message.
_LONGEST_TURN_S = 20.0

#: How long a line's wake message goes on; then other slow work may have the slot.
_LINE_TURN_S = 2.0

#: How long `accept` is tried again while Redis is away; then the sweeper finds the submit's lease over.
_ACCEPT_PATIENCE_S = 600.0


def submit(task: ServerlessTask, endpoint: str | None) -> NoReturn:
    """Carry out a submit message: submit the job whose turn it is, which need not be the message's own.

    Always raises `Ignore`: the job's end comes with its deliver message.
    """
    app = task.app
    runtime, job_id = runtime_of(app), str(task.request.id)
    if endpoint is None:
        endpoint = runtime.store.load(job_id)[0].spec.endpoint
    _take_turn(app, runtime, endpoint, job_id)
    raise Ignore


def submit_line(app: Celery, endpoint: str) -> None:
    """Carry out a line's wake message: submit what the limits allow now. The store says when the next is to come."""
    _take_turn(app, runtime_of(app), endpoint, None)


def _take_turn(app: Celery, runtime: Runtime, endpoint: str, job_id: str | None) -> None:
    """Submit a job, and others: all that are in line, for a line's message; those whose own message found no room; and
    where the endpoint takes its time to answer, what is in line for a job's own message too, side by side."""

    def go_on() -> None:
        end = time.monotonic() + _LINE_TURN_S
        while _submit_one(app, runtime, endpoint, None, turn) and time.monotonic() < end:
            pass

    place = f"submit:{endpoint}"
    with runtime.lane.room(place) as admitted:
        if not admitted:
            return
        with runtime.crew(endpoint).turn(go_on) as turn:
            more = _submit_one(app, runtime, endpoint, job_id, turn, spread=job_id is None)
            if more and (job_id is None or turn.helpers):
                go_on()
            _catch_up(app, runtime, endpoint, place, turn)


def _catch_up(app: Celery, runtime: Runtime, endpoint: str, place: str, turn: Turn) -> None:
    """Submit what is due because its message found no room."""
    end = time.monotonic() + _LONGEST_TURN_S
    while note := runtime.lane.passed_over(place):
        if not _submit_one(app, runtime, endpoint, None, turn):
            runtime.lane.caught_up(place, note)
        elif time.monotonic() >= end:
            hand_on(app, runtime.store, place, Step.SUBMIT)
            return


def _submit_one(
    app: Celery, runtime: Runtime, endpoint: str, job_id: str | None, turn: Turn, *, spread: bool = False
) -> bool:
    """Claim and submit one job. False where there was none to claim, or the limits allow none now."""
    claim = _claim(app, runtime, endpoint, job_id, spread=spread)
    send_line(app, endpoint, claim.wake_s)
    if isinstance(claim, Refused):
        if claim.why in _TOLD:
            tell_job(runtime, claim.job_id, _TOLD[claim.why])
        return False
    crashpoint("after_submit_claim")
    if claim.lost:
        _settle(app, runtime, claim, StillUnknown() if claim.record.state is State.UNKNOWN else OutcomeUnknown())
        return True
    if claim.others:
        turn.call(runtime.run_rate(runtime.target(claim.record.target)).per_s)
    _send(app, runtime, claim)
    return True


def _claim(app: Celery, runtime: Runtime, endpoint: str, job_id: str | None, *, spread: bool) -> Claim | Refused:
    """Claim a job. Where that is a retry, its target's health is asked first, unless the fleet knows it."""
    settings = runtime.settings
    claim = partial(
        runtime.store.claim_submit,
        endpoint,
        runtime.candidates(endpoint),
        job_id=job_id,
        lease_s=settings.http_total_s + LEASE_MARGIN_S,
        durable=runtime.durable,
        spread=spread,
        health_s=settings.health_interval_s,
    )
    claimed = claim()
    heed(app, runtime, claimed.news)
    if isinstance(claimed, Refused) and claimed.why is Refusal.CHECK:
        runtime.outlooks.ask(claimed.target)
        claimed = claim(checked=True)
        heed(app, runtime, claimed.news)
    return claimed


def _send(app: Celery, runtime: Runtime, claim: Claim) -> None:
    """POST the job, once. The lease's age is the last thing looked at before."""
    record = claim.record
    try:
        provider, endpoint_id = runtime.provider(record.target)
        payload = _payload(runtime, claim)
        if not claim.durable or claim.age() > LEASE_MARGIN_S / 2:
            _put_back(app, runtime, claim)
            return
        webhook = webhook_of(runtime.settings, record)
        crashpoint("before_submit")
        begun = time.monotonic()
        remote = provider.run(endpoint_id, payload, policy=policy_of(record), webhook=webhook)
        crashpoint("after_submit_before_record")
        runtime.crew(record.spec.endpoint).note(time.monotonic() - begun)
    except ProviderError as error:
        _not_answered(app, runtime, claim, error)
    except (ConfigurationError, InvalidJob) as error:
        _settle(app, runtime, claim, NotAccepted(RequestRejected(str(error))))
    else:
        _accept(app, runtime, claim, remote.remote_id)


def _payload(runtime: Runtime, claim: Claim) -> dict[str, Any]:
    job_input: dict[str, Any] | None = claim.payload
    if job_input is None:
        raise InvalidJob("the job's input is gone from the store", field="input")
    if not runtime.settings.endpoint(claim.record.spec.endpoint).correlate:
        return job_input
    return {**job_input, CORRELATION_KEY: _correlation(runtime, claim.record)}


def policy_of(record: JobRecord) -> Policy:
    """The limits that go with a submit."""
    spec = record.spec
    return Policy(execution_timeout=round(spec.execution_timeout_s * 1000), ttl=round(spec.ttl_s * 1000))


def _correlation(runtime: Runtime, record: JobRecord) -> dict[str, Any]:
    """What the input says of the attempt, so that a GPU worker can name it, and call its webhook when it takes it."""
    about = {"job_id": record.job_id, "attempt": record.attempt, "correlation_id": record.correlation_id}
    webhook = webhook_of(runtime.settings, record)
    return {**about, "webhook": webhook} if webhook else about


def _put_back(app: Celery, runtime: Runtime, claim: Claim) -> None:
    """Nothing was sent: the job is in line again, at no cost."""
    log.warning("submit.put_back", claim.record, durable=claim.durable, age_s=round(claim.age(), 1))
    record = claim.record.with_(state=State.QUEUED, money=claim.record.money.closed(0))
    decision = Decision(record, Step.SUBMIT, 1.0)
    carry_out(app, claim, decision, runtime.store.settle(claim, decision))


def _not_answered(app: Celery, runtime: Runtime, claim: Claim, error: ProviderError) -> None:
    if not was_not_accepted(error):
        _settle(app, runtime, claim, OutcomeUnknown(error))
        return
    if isinstance(error, RateLimited):
        runtime.store.hold(claim.record.target, "run", min(error.retry_after or 1.0, LONGEST_HOLD_S))
    _settle(app, runtime, claim, NotAccepted(error))


def _settle(app: Celery, runtime: Runtime, claim: Claim, observation: Observation) -> None:
    crashpoint("after_refusal_before_settle")
    record = claim.record
    around = Surroundings(
        may_retry=may_retry(app, record.spec.task), draw=random.uniform, elsewhere=runtime.elsewhere(record)
    )
    decision = advance(record, observation, claim.clock(), around)
    error = getattr(observation, "error", None)
    log.info(
        _EVENTS[type(observation)], record, state=decision.record.state, in_s=round(decision.in_s, 1),
        error=type(error).__name__ if error else None, http_status=getattr(error, "http_status", None),
    )  # fmt: skip
    settled = runtime.store.settle(claim, decision)
    crashpoint("after_submit_settle_before_message")
    carry_out(app, claim, decision, settled)
    runtime.breakers.look(record.target, [decision.outcome], is_open=settled.breaker_open)


def _accept(app: Celery, runtime: Runtime, claim: Claim, remote_id: str) -> None:
    """Record the remote id, whatever it takes: it is the only hold on work that is paid for."""
    record = claim.record
    accepted = _until_stored(lambda: runtime.store.accept(record, remote_id, first_gap(record), claim.clock()))
    log.info("submit.accepted", record.with_(remote_id=remote_id), orphan=accepted.orphan)
    crashpoint("after_record_before_poll")
    send_poll(app, record.target, accepted.wake_s)
    runtime.breakers.look(record.target, is_open=accepted.breaker_open)
    if accepted.cancelling:
        send_cancel(app, job_id=record.job_id)
    if accepted.orphan:
        send_cancel(app, orphan=f"{record.target} {remote_id}")


@retry(
    retry=retry_if_exception_type(StoreError),
    wait=wait_exponential(0.2, max=5),
    stop=stop_after_delay(_ACCEPT_PATIENCE_S),
    reraise=True,
)
def _until_stored(store: Callable[[], Accepted]) -> Accepted:
    return store()
