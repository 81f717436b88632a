"""The steps of a sheet: a worker makes its cells, and puts together what has come of them.

A sheet's cells are planned where it is enqueued, and travel in its input. They are made under ids that say whose they
are, so a worker that dies while it makes them is followed by another that makes the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from celery import Celery
from celery.exceptions import Ignore

from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import ConfigurationError, InvalidJob, StoreError
from ryla_tasks.jobs.lifecycle import Decision
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.sheet import cell_id, conclude
from ryla_tasks.logs import Log
from ryla_tasks.store.answers import Refused
from ryla_tasks.store.sheets import SheetClaim
from ryla_tasks.tasks import enqueue
from ryla_tasks.tasks.messages import send_cancel, send_deliveries
from ryla_tasks.tasks.plan import JobOptions, JobPlan
from ryla_tasks.tasks.plan_json import cell_plan
from ryla_tasks.tasks.routes import CELL_TASK
from ryla_tasks.tasks.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["cancel_cells", "conclusion", "sheet_cell", "spread"]

log = Log(__name__)

#: Longer than making all cells takes where Redis is slow. A worker that is later than this makes nothing twice.
LEASE_S = 60.0


def sheet_cell(*_args: Any, **_kwargs: Any) -> JobPlan:
    """A cell of a sheet. Made by the sheet's own message, never by a call."""
    raise InvalidJob("ryla.sheet_cell is for cells of a sheet alone", field="task")


def spread(task: ServerlessTask) -> NoReturn:
    """Carry out a sheet's first message: make its cells. Always raises `Ignore`: its end comes by a deliver message."""
    app, job_id = task.app, str(task.request.id)
    runtime = runtime_of(app)
    claim = runtime.sheets.claim(job_id, lease_s=LEASE_S)
    if isinstance(claim, Refused):
        raise Ignore
    crashpoint("after_spread_claim")
    lost = _make_cells(app, claim)
    crashpoint("after_cells_before_spread_settle")
    counted, deliveries = runtime.sheets.spread(claim, lost)
    log.info("sheet.spread", claim.record, cells=len(claim.words), lost=len(lost), counted=counted)
    send_deliveries(app, deliveries)
    raise Ignore


def _make_cells(app: Celery, claim: SheetClaim) -> dict[str, str]:
    """Make those that are not made yet. Returns those that cannot be, and why.

    Raises `StoreError`: then the lease ends, and the sheet's message comes again.
    """
    lost = {}
    for name in claim.record.spec.cells:
        if claim.words.get(name) != "new":
            continue
        try:
            _make(app, claim, name)
        except StoreError:
            raise
        except (InvalidJob, ConfigurationError) as error:
            log.warning("sheet.cell_lost", claim.record, cell=name, error=error)
            lost[name] = str(error)
        crashpoint("after_cell_before_next")
    return lost


def _make(app: Celery, claim: SheetClaim, name: str) -> None:
    sheet = claim.record
    if claim.plan is None:
        raise InvalidJob("the sheet's input is gone from the store", field="input")
    task: Any = app.tasks[CELL_TASK]
    plan = cell_plan(claim.plan, name)
    plan = replace(plan, endpoint=plan.endpoint or sheet.spec.endpoint)
    of = (sheet.job_id, name)
    enqueue.accept(task, plan, _options(sheet), cell_id(*of), {}, ((), {}), cell=of)


def _options(sheet: JobRecord) -> JobOptions:
    """A cell is its sheet's user's, and as urgent; it may cost an equal share of what all may."""
    spec = sheet.spec
    made = len(spec.cells) - len(spec.kept)
    return JobOptions(
        user_id=spec.user_id,
        tags=spec.tags,
        priority=spec.priority,
        deadline_s=spec.deadline_s,
        max_retries=spec.max_retries,
        on_unknown=spec.on_unknown,
        max_cost_usd=None if spec.max_cost_usd is None else spec.max_cost_usd / made,
    )


def conclusion(runtime: Runtime, sheet: JobRecord, now: float) -> Decision:
    """How a sheet ends whose cells have all ended."""
    return conclude(sheet, runtime.sheets.view(sheet).cells, now)


def cancel_cells(app: Celery, sheet: JobRecord) -> None:
    """Have the cloud told of the cells that are to stop; the store has noted them, and sees to what gets lost here."""
    for cell in runtime_of(app).sheets.view(sheet).cells:
        if cell.record is not None and cell.record.cancel and not cell.record.state.ended:
            send_cancel(app, job_id=cell.record.job_id)
