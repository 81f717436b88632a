"""Sheets: jobs without a remote job of their own, whose work is done by cells, which are jobs like any other. Pure.

How a sheet stands is kept by the store, in the scripts that change its cells (`commands/cells.lua`). Here is what comes
of it in the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ryla_tasks.errors import Category, InvalidJob, JobError, JobFailed
from ryla_tasks.jobs.ending import described, raised, result_ending
from ryla_tasks.jobs.lifecycle import Decision, Step, cancelled
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State

__all__ = ["MOST_CELLS", "CellState", "cell_entry", "cell_id", "check_cells", "conclude", "state_of"]

#: A sheet's cells are made and stopped in one step of the store.
MOST_CELLS = 32

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

#: Words of the store for a cell without a state of its own, and what they come to.
_STATES = {"new": State.QUEUED, "open": State.QUEUED, "kept": State.COMPLETED, "gone": State.FAILED}


@dataclass(frozen=True, slots=True)
class CellState:
    """How a cell of a sheet stands. `word` is the store's (see `commands/cells.lua`), `why` what it says besides;
    `record` is that of the cell's job, where there is one, `entry` what an earlier sheet has kept of it."""

    name: str
    word: str
    why: str = ""
    record: JobRecord | None = None
    entry: Mapping[str, Any] | None = None


def cell_id(sheet: str, name: str) -> str:
    """The id of a cell's job: making it twice makes it once."""
    return f"{sheet}-{name}"


def check_cells(names: Sequence[str], min_cells: int, field: str = "cells") -> None:
    """Raises `InvalidJob` for names that cannot be those of a sheet's cells, or a number of them that cannot be."""
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidJob(f"{field}: {str(name)[:60]!r} is not a name of lower-case letters, digits, _ and -", field)
    if repeated := sorted({name for name in names if list(names).count(name) > 1}):
        raise InvalidJob(f"{field}: {repeated[0]!r} is there twice", field)
    if not 1 <= len(names) <= MOST_CELLS:
        raise InvalidJob(f"{field}: a sheet has 1 to {MOST_CELLS} of them, not {len(names)}", field)
    if isinstance(min_cells, bool) or not isinstance(min_cells, int) or not 1 <= min_cells <= len(names):
        raise InvalidJob(f"min_cells: must be a whole number from 1 to {len(names)}", "min_cells")


def state_of(cell: CellState) -> State:
    """Where a cell stands, as a job's state."""
    if cell.record is not None and cell.word not in ("kept", "gone"):
        return cell.record.state
    return _STATES[cell.word] if cell.word in _STATES else State(cell.word)


def cell_entry(cell: CellState) -> dict[str, Any]:
    """A cell as it stands in its sheet's result: with its images, or with the error that says why there are none."""
    if cell.entry is not None:
        return dict(cell.entry)
    ending = cell.record.ending if cell.record is not None else None
    entry: dict[str, Any] = {
        "name": cell.name,
        "status": str(state_of(cell)),
        "job_id": cell.record.job_id if cell.record is not None else None,
    }
    if ending and "result" in ending:
        result = ending["result"]
        return {**entry, **{name: result.get(name) for name in ("seed", "artifacts", "fallbacks", "cost", "warnings")}}
    error = _error_of(cell, ending)
    return {**entry, "artifacts": [], "error": {**described(error)["error"]["info"], "message": str(error)}}


def conclude(record: JobRecord, cells: Sequence[CellState], now: float) -> Decision:
    """How a sheet ends whose cells have all ended.

    It has completed if at least `min_cells` of them have an image, unless it was to stop before all had. Else it ends
    as it was to stop, or has failed with the error of the first cell that has none.
    """
    entries = [cell_entry(cell) for cell in cells]
    done = [entry for entry in entries if _is_done(entry)]
    if len(done) >= record.spec.min_cells and (not record.cancel or len(done) == len(entries)):
        observed = replace(record.observed, message="", percent=100.0)
        ending = result_ending(_result(record, entries, now))
        ended = record.with_(state=State.COMPLETED, observed=observed, ended=now, ending=ending)
        return Decision(ended, Step.DELIVER, event="state")
    error, state = _failure(record, cells, entries)
    observed = replace(record.observed, message="")
    ended = record.with_(state=state, observed=observed, ended=now, ending=described(error))
    return Decision(ended, Step.DELIVER, event="state")


def _is_done(entry: Mapping[str, Any]) -> bool:
    return "error" not in entry


def _result(record: JobRecord, entries: Sequence[Mapping[str, Any]], now: float) -> dict[str, Any]:
    missing = [entry["name"] for entry in entries if not _is_done(entry)]
    listed = [
        {"key": artifact["key"], "seed": entry["seed"], "index": index}
        for entry in entries
        for index, artifact in enumerate(entry.get("artifacts") or ())
    ]
    return {
        "job_id": record.job_id,
        "label": record.spec.label,
        "endpoint": record.spec.endpoint,
        "seed": record.spec.seed,
        "cells": list(entries),
        "missing": missing,
        "resumes": record.spec.resumes or None,
        "artifacts": [artifact for entry in entries for artifact in entry.get("artifacts") or ()],
        **({"variations": listed} if record.spec.list_seeds else {}),
        "data": None,
        "warnings": [f"{name} is missing" for name in missing],
        "timings": {"queued_s": None, "waited_s": None, "executed_s": None, "total_s": round(now - record.created, 3)},
        "cost": _cost(record, entries),
    }


def _cost(record: JobRecord, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the cells that were made for this sheet have cost together; nothing is said where one has no price."""
    costs = [entry.get("cost") or {} for entry in entries if entry["name"] not in record.spec.kept and _is_done(entry)]
    return {
        "usd": _sum([cost.get("usd") for cost in costs], 6),
        "billed_s": _sum([cost.get("billed_s") for cost in costs], 3),
        "price_per_s": record.spec.price_per_s or None,
    }


def _sum(amounts: Sequence[float | None], digits: int) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return round(sum(known), digits) if len(known) == len(amounts) else None


def _failure(
    record: JobRecord, cells: Sequence[CellState], entries: Sequence[Mapping[str, Any]]
) -> tuple[JobError, State]:
    if record.cancel:
        return cancelled(record), record.cancel.end
    first = next(cell for cell, entry in zip(cells, entries, strict=True) if not _is_done(entry))
    error = _error_of(first, first.record.ending if first.record is not None else None)
    kind = type(error) if isinstance(error, JobFailed) else JobFailed
    told = [{"name": entry["name"], "status": entry["status"], "job_id": entry["job_id"]} for entry in entries]
    return kind(str(error), {**error.info, "details": {"cell": first.name, "error": error.details, "cells": told}}), (
        State.FAILED
    )


def _error_of(cell: CellState, ending: Mapping[str, Any] | None) -> JobError:
    if ending and "error" in ending and cell.record is not None:
        return raised(cell.record.job_id, dict(ending))
    why = cell.why or ("It was not made." if cell.word in ("new", "gone", "cancelled") else "Its record is gone.")
    return JobFailed(why, {"code": "cell_lost", "category": str(Category.PERMANENT), "details": None})
