"""Running a job to its end in the calling process: `task_always_eager`, and a task that is called like a function.

The same decisions as everywhere, without Redis and without messages: nothing survives the process. For tests and
scripts.
"""

from __future__ import annotations

import json
import math
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kombu.utils.uuid import uuid

from ryla_tasks.errors import ProviderError, RemoteJobNotFound
from ryla_tasks.jobs.budget import Ceiling, refused
from ryla_tasks.jobs.cost import expecting, is_unaffordable
from ryla_tasks.jobs.ending import described, raised
from ryla_tasks.jobs.lifecycle import (
    Decision,
    Missing,
    NotAccepted,
    Observation,
    OutcomeUnknown,
    Seen,
    Step,
    Surroundings,
    Trouble,
    advance,
    cancelled_ending,
)
from ryla_tasks.jobs.planner import first_gap
from ryla_tasks.jobs.record import CancelReason, JobRecord, OnUnknown
from ryla_tasks.jobs.sheet import CellState, cell_id, conclude
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import NO_STATS
from ryla_tasks.providers import was_not_accepted
from ryla_tasks.tasks.announce import announce
from ryla_tasks.tasks.budget import terms_of
from ryla_tasks.tasks.deliver import observe_output
from ryla_tasks.tasks.plan import JobOptions, JobPlan, split_options
from ryla_tasks.tasks.runtime import Runtime, runtime_of
from ryla_tasks.tasks.submit import policy_of

if TYPE_CHECKING:
    from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["run_to_end"]


def run_to_end(task: ServerlessTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run a job here and now; returns its result or raises its error."""
    options, rest = split_options(kwargs)
    plan = task.plan(*args, **rest)
    if plan.cells:
        return _ended(task, _run_sheet(task, plan, options))
    return _ended(task, _run_job(task, plan, options, task.request.id or uuid()))


def _ended(task: ServerlessTask, record: JobRecord) -> Any:
    """The result of a job that has ended. Raises its error."""
    announce(task, record)
    ending = record.ending or {}
    if "result" in ending:
        return ending["result"]
    raise raised(record.job_id, ending)


def _run_sheet(task: ServerlessTask, plan: JobPlan, options: JobOptions) -> JobRecord:
    """Run the cells of a sheet one after the other; a failed one does not stop the others."""
    spec, _inputs = task.new_spec(plan, options)
    sheet = JobRecord(task.request.id or uuid(), spec, created=time.time())
    plans = {cell.name: cell.plan for cell in plan.cells}
    cells = []
    for name in spec.cells:
        if name in plans:
            record = _run_job(task, plans[name], options, cell_id(sheet.job_id, name))
            cells.append(CellState(name, str(record.state), record=record))
        else:
            cells.append(CellState(name, "kept", entry=plan.kept[name]))
    return conclude(sheet, cells, time.time()).record


def _run_job(task: ServerlessTask, plan: JobPlan, options: JobOptions, job_id: str) -> JobRecord:
    runtime = runtime_of(task.app)
    spec, inputs = task.new_spec(plan, options)
    # Nobody could find an unanswered submit again: there is no record that a webhook could name.
    spec = replace(spec, on_unknown=OnUnknown.FAIL)
    record = JobRecord(job_id, spec, created=time.time())
    around = Surroundings(may_retry=task.may_retry, may_resubmit=task.may_resubmit, draw=random.uniform)
    decision, payload = Decision(record, Step.SUBMIT), json.loads(inputs[0])
    while not decision.record.state.ended:
        time.sleep(min(decision.in_s, _left_s(decision.record)))
        decision = _step(runtime, decision, payload, around)
        if decision.fallback_input is not None:
            payload = json.loads(inputs[1 + decision.fallback_input])
    return decision.record


def _step(runtime: Runtime, decision: Decision, payload: dict[str, Any], around: Surroundings) -> Decision:
    record, now = decision.record, time.time()
    if decision.step is Step.SUBMIT:
        if not _left_s(record):
            ending = cancelled_ending(CancelReason.DEADLINE)
            return Decision(record.with_(state=State.TIMED_OUT, ended=now, ending=ending), Step.DELIVER)
        return _submit(runtime, record, payload, around)
    if decision.step is Step.DELIVER:
        return advance(record, observe_output(runtime, record, decision.output, now), time.time(), around)
    if not _left_s(record):
        record = _cancel(runtime, record, CancelReason.DEADLINE)
    elif decision.over:
        record = _cancel(runtime, record, CancelReason.BUDGET)
    return advance(record, _ask(runtime, record), time.time(), around)


def _left_s(record: JobRecord) -> float:
    """The seconds until a job's deadline; 0 where that has passed, infinite where there is none or it is to stop."""
    if record.spec.deadline_s is None or record.cancel:
        return math.inf
    return max(0.0, record.created + record.spec.deadline_s - time.time())


def _submit(runtime: Runtime, record: JobRecord, payload: dict[str, Any], around: Surroundings) -> Decision:
    target = _target(runtime, record)
    terms = terms_of(runtime.target(target), NO_STATS)
    record = record.with_(money=expecting(record, terms.price_per_s if terms else 0.0))
    if is_unaffordable(record):
        ending = described(refused(Ceiling.JOB))
        return Decision(record.with_(state=State.FAILED, ended=time.time(), ending=ending), Step.DELIVER)
    record = record.with_(
        state=State.SUBMITTING, attempt=record.attempt + 1, target=target, correlation_id=secrets.token_hex(12)
    )
    provider, endpoint_id = runtime.provider(target)
    try:
        remote = provider.run(endpoint_id, payload, policy=policy_of(record))
    except ProviderError as error:
        outcome: Observation = NotAccepted(error) if was_not_accepted(error) else OutcomeUnknown(error)
        return advance(record, outcome, time.time(), replace(around, elsewhere=runtime.elsewhere(record)))
    record = record.with_(state=State.WAITING, remote_id=remote.remote_id, submitted=time.time())
    return Decision(record, Step.POLL, first_gap(record))


def _target(runtime: Runtime, record: JobRecord) -> str:
    """The first target that the job has not left, of those that have what it needs."""
    left, only = dict(record.left), record.spec.only
    targets = [target.id for target in runtime.settings.endpoint(record.spec.endpoint).targets]
    able = [one for one in targets if not only or one in only] or targets
    return next((one for one in able if one not in left), able[0])


def _ask(runtime: Runtime, record: JobRecord) -> Observation:
    provider, endpoint_id = runtime.provider(record.target)
    try:
        return Seen(provider.status(endpoint_id, record.remote_id))
    except RemoteJobNotFound:
        return Missing()
    except ProviderError as error:
        return Trouble(error)


def _cancel(runtime: Runtime, record: JobRecord, reason: CancelReason) -> JobRecord:
    provider, endpoint_id = runtime.provider(record.target)
    try:
        provider.cancel(endpoint_id, record.remote_id)
    except ProviderError:
        return record
    return record.with_(cancel=reason)
