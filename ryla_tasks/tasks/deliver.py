"""The deliver step: collect a finished job's output, then return its end to Celery under the job's own task id."""

from __future__ import annotations

import hashlib
import random
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from celery import Celery
from celery.exceptions import Ignore

from ryla_tasks.artifacts import OutputLimits, collect, decode_output, fetch_url
from ryla_tasks.artifacts.base import ArtifactError
from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import Category, JobError, ProviderError, RemoteJobNotFound
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.lifecycle import (
    Collected,
    Decision,
    Missing,
    Observation,
    OutputBad,
    Seen,
    Step,
    Surroundings,
    Uncollected,
    advance,
)
from ryla_tasks.jobs.record import CancelReason, JobRecord
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import State
from ryla_tasks.logs import Log
from ryla_tasks.store.answers import Claim, Refused
from ryla_tasks.tasks.alerting import tell_operator
from ryla_tasks.tasks.announce import announced
from ryla_tasks.tasks.cells import conclusion
from ryla_tasks.tasks.ends import CLAIM, RESULT
from ryla_tasks.tasks.messages import hand_on
from ryla_tasks.tasks.outcome import carry_out, may_resubmit, may_retry
from ryla_tasks.tasks.result import build_result
from ryla_tasks.tasks.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["deliver", "observe_output"]

log = Log(__name__)

#: Longer than fetching and storing the largest output may take, and Celery's writing of the result after it.
LEASE_S = 180.0

#: The same for a training, whose files are hundreds of megabytes each.
LONG_LEASE_S = 1_200.0

#: The log's words for an end.
_ENDED = {
    State.COMPLETED: "job.completed",
    State.FAILED: "job.failed",
    State.CANCELLED: "job.cancelled",
    State.TIMED_OUT: "job.timed_out",
    State.EXPIRED: "job.expired",
}

_PLACE = "deliver"
_FETCH_S = 120.0
_LONG_FETCH_S = 600.0
_LARGE_FILES = OutputLimits(max_file_bytes=4 * 1024**3)
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def deliver(task: ServerlessTask) -> Any:
    """Carry out a deliver message: return the job's result, or raise its error. Every delivery does the same.

    Raises `Ignore` where there is nothing to deliver: already delivered, somebody else at it, or not collected yet.
    """
    app = task.app
    runtime, job_id = runtime_of(app), str(task.request.id)
    claim = runtime.store.claim_deliver(job_id=job_id, lease_s=LEASE_S)
    if isinstance(claim, Refused):
        raise Ignore
    setattr(task.request, CLAIM, claim)
    crashpoint("after_deliver_claim")
    record = claim.record
    if not record.state.ended:
        with runtime.lane.room(_PLACE) as admitted:
            if not admitted:
                runtime.store.release(claim)
                # Noted again: whoever looked before the release has not seen it.
                runtime.lane.pass_over(_PLACE)
                raise Ignore
            if record.spec.kind == "lora":
                longer = runtime.store.prolong(claim, LONG_LEASE_S)
                if longer is None:
                    raise Ignore
                claim = longer
                setattr(task.request, CLAIM, claim)
            record = _collect(app, runtime, claim, own=job_id)
            _hand_on(app, runtime)
    if not record.state.ended or not announced(task, claim, record):
        raise Ignore
    return _end(task, record)


def _end(task: ServerlessTask, record: JobRecord) -> Any:
    ending = record.ending or {}
    log.info(_ENDED[record.state], record, **_why(ending))
    if _retries_are_used_up(record):
        targets, code = runtime_of(task.app).targets, _why(ending)["code"]
        tell_operator(targets, "retries_exhausted", record.spec.endpoint, job=record, retries=record.retries, code=code)
    if "result" in ending:
        setattr(task.request, RESULT, ending["result"])
        return ending["result"]
    if record.cancel is CancelReason.REVOKED:
        _revoke(task, record)
    raise raised(record.job_id, ending)


def _why(ending: dict[str, Any]) -> dict[str, str]:
    """The code of an error; its words may be a GPU worker's, and stay in the record."""
    return {"code": ending["error"]["info"].get("code", "")} if "error" in ending else {}


def _retries_are_used_up(record: JobRecord) -> bool:
    """Whether the job failed by what might have passed, and was tried again as often as it may."""
    info = (record.ending or {}).get("error", {}).get("info", {})
    passing = info.get("category") in (Category.TRANSIENT, Category.RECOVERABLE)
    return record.state is State.FAILED and passing and 0 < record.spec.max_retries <= record.retries


def _revoke(task: ServerlessTask, record: JobRecord) -> NoReturn:
    """End a revoked job as Celery's own revoke does, chord and links included."""
    task.backend.mark_as_revoked(record.job_id, "revoked", request=task.request, store_result=True)
    runtime_of(task.app).store.delivered(record.job_id)
    raise Ignore


def _hand_on(app: Celery, runtime: Runtime) -> None:
    """Have what found no room collected, by its own message: this job's end is not to wait for it."""
    note = runtime.lane.passed_over(_PLACE)
    if note and not hand_on(app, runtime.store, _PLACE, Step.DELIVER):
        runtime.lane.caught_up(_PLACE, note)


def _collect(app: Celery, runtime: Runtime, claim: Claim, *, own: str) -> JobRecord:
    """Fetch and store the output. The record comes back as it then stands, ended or not."""
    record = claim.record
    decision = conclusion(runtime, record, claim.clock()) if record.spec.cells else _decision(app, runtime, claim)
    keep = bool(own) and decision.record.state.ended
    crashpoint("after_artifacts_before_settle")
    settled = runtime.store.settle(claim, decision, keep=keep)
    crashpoint("after_deliver_settle_before_return")
    carry_out(app, claim, decision, settled, own=own if keep else "")
    runtime.budget_alerts.tell(settled.news)
    if not all(settled.counted):
        return record
    if decision.record.state.ended and decision.record.state is not State.COMPLETED:
        # Somebody may have asked the job to stop since the claim: then it ended otherwise than was decided.
        return runtime.store.load(record.job_id)[0]
    return decision.record


def _decision(app: Celery, runtime: Runtime, claim: Claim) -> Decision:
    record, name = claim.record, claim.record.spec.task
    observation = observe_output(runtime, record, claim.payload, claim.clock())
    around = Surroundings(may_retry=may_retry(app, name), may_resubmit=may_resubmit(app, name), draw=random.uniform)
    return advance(record, observation, claim.clock(), around)


def observe_output(runtime: Runtime, record: JobRecord, kept: Any, now: float) -> Observation:
    """Look at a finished job's output, the kept one or else the cloud's, and store its files."""
    try:
        remote = _remote(runtime, record, kept)
        if remote.status is not RemoteStatus.COMPLETED:
            return Seen(remote)
        crashpoint("after_fetch_before_artifacts")
        return Collected(_result(runtime, record, remote, now))
    except JobError as error:
        return OutputBad(error)
    except RemoteJobNotFound:
        return Missing()
    except (ProviderError, ArtifactError, OSError) as error:
        log.warning("collect.failed", record, error=error)
        return Uncollected(f"{type(error).__name__}: {error}")


def _remote(runtime: Runtime, record: JobRecord, kept: Any) -> RemoteJob:
    if kept is not None:
        return RemoteJob(record.remote_id, RemoteStatus.COMPLETED, output=kept)
    provider, endpoint_id = runtime.provider(record.target)
    runtime.store.spend_call(record.target, "status", runtime.status_rate(runtime.target(record.target)))
    return provider.status(endpoint_id, record.remote_id)


def _result(runtime: Runtime, record: JobRecord, remote: RemoteJob, now: float) -> dict[str, Any]:
    large = record.spec.kind == "lora"
    limits = _LARGE_FILES if large else OutputLimits()
    decoded = decode_output(remote.output, expected=record.spec.expected_images, limits=limits)
    prefix = f"{record.spec.kind}/{_key_part(record.job_id)}/{record.attempt}"
    ca_bundle = runtime.settings.download_ca_bundle
    fetch = partial(
        fetch_url,
        max_bytes=limits.max_file_bytes,
        timeout_s=_LONG_FETCH_S if large else _FETCH_S,
        allow_private=runtime.settings.download_private,
        ca_bundle=str(ca_bundle) if ca_bundle else None,
    )
    artifacts = collect(decoded, runtime.artifacts, prefix, fetch, limits=limits)
    return build_result(record, remote, artifacts, decoded, now)


def _key_part(job_id: str) -> str:
    """A job's id as part of a key. Celery lets a task id be any text; ours are plain already."""
    return job_id if _PLAIN_ID.fullmatch(job_id) else hashlib.sha256(job_id.encode()).hexdigest()[:32]
