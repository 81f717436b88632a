"""Making a job again that has ended without a result: a new job with the same task and input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery
from kombu.utils.uuid import uuid

from ryla_tasks.errors import InvalidJob
from ryla_tasks.jobs.record import JobRecord, JobSpec
from ryla_tasks.jobs.states import State
from ryla_tasks.store.kept import Kept
from ryla_tasks.tasks import enqueue
from ryla_tasks.tasks.plan import JobOptions, JobPlan, split_options
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.tasks.sheet import TASK as SHEET_TASK

__all__ = ["Made", "kept_of", "make_again"]

#: Codes of ends at which a GPU may be at work on the job, or may have done the work: nobody knows.
_DOUBTFUL = frozenset({"submit_unknown", "remote_lost", "endpoint_gone"})


@dataclass(frozen=True, slots=True)
class Made:
    """The job that was made after an ended one, whose id is `retry_of`; `is_new` says whether this call made it."""

    job_id: str
    retry_of: str
    is_new: bool


def kept_of(app: Celery, job_id: str, *, may_pay_twice: bool = False) -> Kept:
    """What a job can be made again from: its own, or where it only ended as another one did, that one's.

    Raises `InvalidJob` saying why it cannot be, `JobNotFound`.
    """
    store = runtime_of(app).kept
    kept = store.of(job_id)
    while kept.record.state.ended and kept.record.alias_of:
        kept = store.of(kept.record.alias_of)
    if problem := _problem(app, kept) or ("" if may_pay_twice else _doubt(app, kept)):
        raise InvalidJob(f"job_id: {job_id} {problem}", field="job_id")
    return kept


def make_again(
    app: Celery, job_id: str, options: Mapping[str, Any], *, again: bool = False, may_pay_twice: bool = False
) -> Made:
    """Make a job again; of a sheet what is missing of it. `options` go before the ended job's own.

    Without `again` it makes one new job of an ended one, however often it is called. Raises `InvalidJob` where the job
    cannot be made again or an option is wrong, `JobNotFound`, and what an enqueue raises.
    """
    kept = kept_of(app, job_id, may_pay_twice=may_pay_twice)
    record = kept.record
    wanted, unknown = split_options({**_inherited(record, again=again), **options})
    if unknown:
        name = next(iter(unknown))
        raise InvalidJob(f"{name}: is no option of a job; a retry has the input of the ended one", field=name)
    new_id = uuid()
    if record.spec.cells:
        result = app.tasks[SHEET_TASK].apply_async(
            kwargs={**wanted.model_dump(exclude_unset=True), "resume": record.job_id}, task_id=new_id
        )
    else:
        task: Any = app.tasks[record.spec.task]
        spec, inputs = _new_spec(task, kept, wanted)
        unheard = {"ignore_result": record.spec.ignore_result}
        result = enqueue.accept_spec(task, spec, inputs, new_id, unheard, ((record.job_id,), {}))
    return Made(result.id, record.job_id, result.id == new_id)


def _problem(app: Celery, kept: Kept) -> str:
    """Why a job cannot be made again; empty where it can."""
    record, spec = kept.record, kept.record.spec
    if not record.state.ended:
        return f"is {record.state}: only a job that has ended can be made again"
    if spec.sheet:
        return f"is a cell of the sheet {spec.sheet}: retry the sheet, which makes what is missing"
    if spec.cells:
        return ""
    if record.state is State.COMPLETED:
        return "has completed: enqueue it anew for another result"
    if kept.input_json is None:
        return "has no input any more: it was larger than RYLA_KEEP_INPUT_BYTES, or older than that setting"
    if spec.task not in app.tasks:
        return f"is of the task {spec.task}, which this Celery app does not know: use the app that defines it (--app)"
    return ""


def _doubt(app: Celery, kept: Kept) -> str:
    """Why making a job again may pay for the same work twice; empty where it surely does not."""
    records = [kept.record]
    if kept.record.spec.cells:
        cells = runtime_of(app).sheets.view(kept.record).cells
        records = [cell.record for cell in cells if cell.record is not None]
    if not kept.doubt and not any(_code(record) in _DOUBTFUL for record in records):
        return ""
    return (
        "ended while nobody knew whether a GPU had taken it, so a retry may pay for the same work twice: say "
        "may_pay_twice=True (--even-unknown) if it is worth that"
    )


def _code(record: JobRecord) -> str:
    info = (record.ending or {}).get("error", {}).get("info", {})
    return str(info.get("code", ""))


def _inherited(record: JobRecord, *, again: bool) -> dict[str, Any]:
    """Whose the new job is, how urgent, and what it may cost and risk: as with the ended one. How long it may take, and
    how often it may be tried, is for today's settings to say: they may have been what was wrong."""
    spec = record.spec
    inherited: dict[str, Any] = {
        "user_id": spec.user_id,
        "tags": list(spec.tags),
        "priority": str(spec.priority),
        "on_unknown": str(spec.on_unknown),
        "max_cost_usd": spec.max_cost_usd,
    }
    word = "resume" if spec.cells else "retry"
    return inherited | {"idempotency_key": f"{word} {record.job_id}" + (f" {uuid()}" if again else "")}


def _new_spec(task: Any, kept: Kept, options: JobOptions) -> tuple[JobSpec, tuple[str, ...]]:
    """The spec of the new job, by today's settings, and its inputs: the latest one, and the fallbacks that are left."""
    old = kept.record.spec
    plan = JobPlan(
        json.loads(kept.input_json or "{}"),
        endpoint=old.endpoint,
        expected_images=old.expected_images,
        seed=old.seed,
        expected_run_s=old.expected_run_s,
        label=old.label,
        list_seeds=old.list_seeds,
    )
    spec, inputs = task.new_spec(plan, options)
    targets = {target.id for target in runtime_of(task.app).settings.endpoint(old.endpoint).targets}
    only = tuple(target for target in old.only if target in targets)
    spec = replace(spec, only=only, fallbacks=old.fallbacks, retry_of=kept.record.job_id)
    return spec, (*inputs, *kept.other_inputs)
