"""What comes of a sheet, whatever has become of its cells."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.errors import InvalidJob, JobFailed, JobTimedOut
from ryla_tasks.jobs.ending import error_ending, raised, result_ending
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.jobs.record import CancelReason, JobRecord, JobSpec
from ryla_tasks.jobs.sheet import MOST_CELLS, CellState, cell_entry, check_cells, conclude, state_of
from ryla_tasks.jobs.states import State

NOW = 1_000.0


def result(name: str, usd: float | None = 0.5) -> dict[str, Any]:
    artifact = {"key": f"k/{name}.png", "content_type": "image/png", "bytes": 1, "sha256": "0", "filename": "x.png"}
    cost = {"usd": usd, "billed_s": 2.0, "price_per_s": 0.25}
    return {"seed": 7, "artifacts": [artifact], "fallbacks": [], "cost": cost, "warnings": [], "data": None}


def cell(name: str, how: str) -> CellState:
    """A cell that has ended in one of the ways in which cells end."""
    record = JobRecord(f"s-{name}", JobSpec("t", "special", "special", sheet="s", cell=name))
    match how:
        case "completed":
            return CellState(name, how, record=record.with_(state=State.COMPLETED, ending=result_ending(result(name))))
        case "failed":
            ending = error_ending(JobFailed, "No memory.", code="gpu_memory", details={"node": 3})
            return CellState(name, how, record=record.with_(state=State.FAILED, ending=ending))
        case "timed_out":
            ending = error_ending(JobTimedOut, "Too slow.")
            return CellState(name, how, record=record.with_(state=State.TIMED_OUT, ending=ending))
        case "cancelled" | "completed-lost":
            return CellState(name, how.partition("-")[0])
        case "kept":
            return CellState(name, how, entry={"name": name, "status": "completed", "job_id": "old", **result(name)})
        case _:
            return CellState(name, "gone", why="There is no endpoint.")


WAYS = ["completed", "failed", "timed_out", "cancelled", "kept", "gone", "completed-lost"]
DONE = {"completed", "kept"}


def sheet(ways: list[str], min_cells: int = 1, **changes: Any) -> tuple[JobRecord, list[CellState]]:
    names = tuple(f"c{place}" for place in range(len(ways)))
    kept = tuple(name for name, way in zip(names, ways, strict=True) if way == "kept")
    spec = JobSpec("t", "special", "special", cells=names, kept=kept, min_cells=min_cells, label="x", seed=7)
    record = JobRecord("s", spec, state=State.COLLECTING, created=NOW - 60, **changes)
    return record, [cell(name, way) for name, way in zip(names, ways, strict=True)]


@given(
    ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=8),
    min_cells=st.integers(1, 8),
    cancel=st.sampled_from([None, CancelReason.USER, CancelReason.REVOKED, CancelReason.DEADLINE]),
)
def test_a_sheet_always_ends_and_accounts_for_every_cell(
    ways: list[str], min_cells: int, cancel: CancelReason | None
) -> None:
    record, cells = sheet(ways, min(min_cells, len(ways)), cancel=cancel)
    decision = conclude(record, cells, NOW)
    after = decision.record
    assert (decision.step, decision.event) == (Step.DELIVER, "state")
    assert after.state.ended
    assert after.ended == NOW
    assert after.ending
    done = [way for way in ways if way in DONE]
    whole = len(done) == len(ways)
    assert (after.state is State.COMPLETED) == (whole or (cancel is None and len(done) >= record.spec.min_cells))
    if after.state is State.COMPLETED:
        value = after.ending["result"]
        assert [entry["name"] for entry in value["cells"]] == list(record.spec.cells)
        assert len(value["missing"]) == len(ways) - len(done)
        assert len(value["artifacts"]) == len(done)
        assert all(("error" in entry) == (entry["name"] in value["missing"]) for entry in value["cells"])
        assert after.observed.percent == 100.0
    else:
        error = raised("s", after.ending)
        assert str(error)
        assert error.info["code"]
        assert after.state is (cancel.end if cancel else State.FAILED)


def test_the_error_of_the_first_missing_cell_is_that_of_the_sheet() -> None:
    record, cells = sheet(["completed", "timed_out", "failed"], min_cells=3)
    error = raised("s", conclude(record, cells, NOW).record.ending or {})
    assert isinstance(error, JobFailed)
    assert (str(error), error.details["cell"]) == ("Too slow.", "c1")
    assert [one["status"] for one in error.details["cells"]] == ["completed", "timed_out", "failed"]


def test_the_cost_is_that_of_the_cells_that_were_made_for_it() -> None:
    record, cells = sheet(["completed", "kept", "completed", "failed"])
    value = (conclude(record, cells, NOW).record.ending or {})["result"]
    assert (value["cost"]["usd"], value["cost"]["billed_s"]) == (1.0, 4.0)
    assert value["timings"]["total_s"] == 60.0


def test_an_entry_says_why_there_is_no_image() -> None:
    assert cell_entry(cell("a", "gone"))["error"]["message"] == "There is no endpoint."
    entry = cell_entry(cell("a", "failed"))
    assert (entry["error"]["code"], entry["error"]["details"]) == ("gpu_memory", {"node": 3})
    assert cell_entry(cell("a", "kept"))["job_id"] == "old"


@pytest.mark.parametrize(
    ("way", "state"), [("gone", State.FAILED), ("kept", State.COMPLETED), ("cancelled", State.CANCELLED)]
)
def test_a_cell_without_a_job_has_a_state_too(way: str, state: State) -> None:
    assert state_of(cell("a", way)) is state


@pytest.mark.parametrize(
    ("names", "least", "field"),
    [
        ([], 1, "cells"), (["a"] * 2, 1, "cells"), (["a b"], 1, "cells"), (["A"], 1, "cells"), ([7], 1, "cells"),
        (["../x"], 1, "cells"), ([f"c{n}" for n in range(MOST_CELLS + 1)], 1, "cells"), (["a"], 2, "min_cells"),
        (["a"], 0, "min_cells"), (["a"], True, "min_cells"),
    ],
)  # fmt: skip
def test_names_that_cannot_be(names: list[Any], least: int, field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        check_cells(names, least)
    assert caught.value.field == field


def test_a_spec_with_cells_survives_json() -> None:
    record, _ = sheet(["completed", "kept"], min_cells=2)
    assert JobSpec.from_json(record.spec.to_json()) == record.spec
