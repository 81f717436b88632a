"""Sheets in the store: cells made once, progress that never goes back, one end, whatever happens in what order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_world import World, again, collecting, completed, failed

from ryla_tasks.jobs.record import CancelReason, JobSpec
from ryla_tasks.jobs.sheet import conclude
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Created, Creation, NewJob, Refusal, Refused
from ryla_tasks.store.cleaning import clean
from ryla_tasks.store.sheets import SheetClaim, SheetStore

NAMES = ("front", "side-left", "back")


class Sheet:
    """A sheet, and what a worker does with it."""

    def __init__(self, world: World, names: tuple[str, ...] = NAMES, **options: Any) -> None:
        self.world = world
        self.sheets = SheetStore(world.client, prefix="ryla")
        self.names = names
        self.id = world.job("sheet", cells=names, input_json='{"cells":{},"kept":{}}', **options)

    def claim(self, *, lease_s: float = 20.0) -> SheetClaim:
        claim = self.sheets.claim(self.id, lease_s=lease_s)
        assert isinstance(claim, SheetClaim), claim
        return claim

    def cell(self, name: str, **options: Any) -> Created:
        job_id = f"{self.id}-{name}"
        spec = JobSpec("ryla.sheet_cell", "image", "image", sheet=self.id, cell=name, **options)
        return self.world.store.create(NewJob(job_id, spec, '{"prompt":"x"}', f"envelope of {job_id}"))

    def spread(self, lost: dict[str, str] | None = None) -> None:
        """As a worker does it."""
        claim = self.claim()
        for name in self.names:
            if claim.words[name] == "new" and name not in (lost or {}):
                assert self.cell(name).word is Creation.CREATED
        counted, _deliveries = self.sheets.spread(claim, lost or {})
        assert counted

    def submit(self, name: str) -> None:
        self.world.accept(self.world.claim(f"{self.id}-{name}").record)

    def polled(self, name: str, **changes: Any) -> Any:
        """The cell's record as a ride claims it; the ride settles nothing else."""
        job_id = f"{self.id}-{name}"
        self.world.past("due:poll:runpod:img", job_id)
        ride = self.world.ride(most=1)
        (record,) = ride.records
        assert record.job_id == job_id
        return ride, record

    def progress(self, name: str, percent: float) -> None:
        ride, record = self.polled(name)
        observed = type(record.observed)(percent=percent)
        decision = again(record.with_(observed=observed), 60.0, state=State.RUNNING, event="progress")
        self.world.settle(ride, decision)

    def end(self, name: str, *, well: bool = True) -> tuple[str, ...]:
        """End a cell that is at the cloud; returns the jobs whose deliver messages are to be sent."""
        ride, record = self.polled(name)
        if not well:
            return tuple(one.job_id for one in self.world.settle(ride, failed(record)).envelopes)
        self.world.settle(ride, collecting(record))
        claim = self.world.collect(record.job_id)
        return tuple(one.job_id for one in self.world.store.settle(claim, completed(claim.record)).envelopes)

    @property
    def words(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.world.client.hgetall(f"ryla:cells:{self.id}").items()}

    @property
    def state(self) -> State:
        return self.world.state(self.id)


@pytest.fixture
def sheet(world: World) -> Sheet:
    return Sheet(world)


def test_a_new_sheet_waits_to_have_its_cells_made(world: World, sheet: Sheet) -> None:
    assert sheet.state is State.QUEUED
    assert sheet.words == dict.fromkeys(NAMES, "new")
    assert world.has("due:spread", "sheet")
    assert not world.has("due:submit:image", "sheet")
    assert world.has("outbox", "spread|sheet")


def test_a_lost_first_message_is_sent_again(world: World, sheet: Sheet) -> None:
    world.past("outbox", "spread|sheet")
    assert ("spread", "sheet", "envelope of sheet") in world.sweep().messages


def test_one_worker_at_a_time_makes_cells_and_the_next_makes_the_rest(world: World, sheet: Sheet) -> None:
    sheet.claim()
    assert sheet.state is State.RUNNING
    sheet.cell("front")
    refused = sheet.sheets.claim("sheet", lease_s=20)
    assert isinstance(refused, Refused)
    assert refused.why is Refusal.HELD
    world.past("due:spread", "sheet")  # that worker died
    claim = sheet.claim()
    assert claim.words == {"front": "open 0", "side-left": "new", "back": "new"}
    assert sheet.cell("front").word is Creation.EXISTS


def test_a_worker_that_wakes_up_late_settles_nothing(world: World, sheet: Sheet) -> None:
    old = sheet.claim()
    world.past("due:spread", "sheet")
    sheet.spread()
    assert sheet.sheets.spread(old, {"front": "no"}) == (False, ())
    assert sheet.words["front"] == "open 0"


def test_a_cell_that_cannot_be_made_does_not_stop_the_others(world: World, sheet: Sheet) -> None:
    sheet.spread(lost={"back": "There is no endpoint."})
    assert sheet.words["back"] == "gone There is no endpoint."
    assert sheet.state is State.RUNNING
    view = sheet.sheets.view(world.record("sheet"))
    assert [(cell.name, cell.word, cell.why) for cell in view.cells][-1] == ("back", "gone", "There is no endpoint.")


def test_the_id_of_a_cell_that_is_somebody_elses_job(world: World, sheet: Sheet) -> None:
    world.job("sheet-front")
    claim = sheet.claim()
    assert sheet.cell("front").word is Creation.OVER
    sheet.cell("side-left"), sheet.cell("back")
    sheet.sheets.spread(claim, {})
    assert sheet.words["front"] == "gone"
    assert sheet.sheets.view(world.record("sheet")).cells[0].record is None


def test_progress_is_the_mean_of_the_cells_and_never_goes_back(world: World, sheet: Sheet) -> None:
    sheet.spread()
    for name in NAMES:
        sheet.submit(name)
    sheet.progress("front", 60.0)
    assert world.record("sheet").observed.percent == 20.0
    sheet.progress("front", 90.0)
    sheet.progress("side-left", 90.0)
    assert world.record("sheet").observed.percent == 60.0
    sheet.progress("front", 10.0)  # new attempts
    sheet.progress("side-left", 10.0)
    assert sheet.words["front"] == "open 10.0"
    sheet.end("back", well=False)
    observed = world.record("sheet").observed
    assert (observed.percent, observed.message) == (60.0, "0 of 3 done, 1 failed")
    told = [json.loads(event)["percent"] for event in world.events("sheet")]
    assert told == sorted(told)


def test_the_end_of_the_last_cell_hands_the_sheet_over_in_the_same_step(world: World, sheet: Sheet) -> None:
    sheet.spread()
    for name in NAMES:
        sheet.submit(name)
    assert sheet.end("front") == ("sheet-front",)
    assert sheet.end("side-left", well=False) == ("sheet-side-left",)
    assert sheet.end("back") == ("sheet-back", "sheet")
    assert sheet.state is State.COLLECTING
    assert world.has("due:deliver", "sheet")
    assert world.has("outbox", "deliver|sheet")
    assert not world.has("outbox", "sheet|sheet")
    claim = world.collect("sheet")
    world.store.settle(claim, completed(claim.record))
    assert sheet.state is State.COMPLETED
    assert world.client.exists("ryla:input:sheet")  # the missing cell may be made by another sheet


def test_cells_that_end_before_all_are_made_do_not_end_the_sheet(world: World, sheet: Sheet) -> None:
    sheet.claim()
    sheet.cell("front")
    sheet.submit("front")
    sheet.end("front")
    assert sheet.state is State.RUNNING


@pytest.mark.parametrize("reason", list(CancelReason)[:3])
def test_a_sheet_that_nobody_has_begun_with_ends_at_once(world: World, sheet: Sheet, reason: CancelReason) -> None:
    word, deliveries = world.store.cancel("sheet", reason)
    assert word == "ended"
    assert [one.job_id for one in deliveries] == ["sheet"]
    assert sheet.state is reason.end
    assert not world.has("due:spread", "sheet")
    assert sheet.cell("front").word is Creation.OVER


def test_cancelling_cancels_every_cell_wherever_it_stands(world: World) -> None:
    sheet = Sheet(world, ("a", "b", "c", "d"))
    claim = sheet.claim()
    for name in ("a", "b", "c"):
        sheet.cell(name)
    sheet.submit("a")
    submitting = world.claim("sheet-b").record
    word, deliveries = world.store.cancel("sheet")
    assert word == "remote"
    assert json.loads(world.events("sheet")[-1])["message"] == "Cancelling"
    assert [one.job_id for one in deliveries] == ["sheet-c"]
    assert sheet.words == {"a": "open 0", "b": "open 0", "c": "cancelled", "d": "cancelled"}
    assert sheet.cell("d").word is Creation.OVER
    assert sheet.sheets.spread(claim, {})[0]
    assert world.has("outbox", "cancel|sheet-a")
    assert world.accept(submitting, "r-b").cancelling
    assert sheet.state is State.RUNNING
    assert world.record("sheet").cancel is CancelReason.USER
    sheet.end("a", well=False)
    sheet.end("b", well=False)
    assert sheet.state is State.COLLECTING


def test_a_deadline_stops_the_cells_too(world: World) -> None:
    sheet = Sheet(world, deadline_s=60.0)
    sheet.spread()
    sheet.submit("front")
    world.past("deadlines", "sheet")
    swept = world.sweep()
    assert ("cancel", "sheet", "") in swept.messages
    assert sheet.words == {"front": "open 0", "side-left": "timed_out", "back": "timed_out"}


def test_a_sheet_that_began_in_time_does_not_expire(world: World) -> None:
    sheet = Sheet(world, start_by_s=60.0)
    sheet.spread()
    assert not world.has("deadlines", "start|sheet")


def test_records_of_cells_go_with_that_of_their_sheet(world: World, sheet: Sheet) -> None:
    sheet.spread()
    for name in NAMES:
        sheet.submit(name)
        sheet.end(name)
        world.store.delivered(f"sheet-{name}")
    assert not world.has("expiry", "sheet-front")
    claim = world.collect("sheet")
    world.store.settle(claim, completed(claim.record))
    world.store.delivered("sheet")
    assert clean(world.client, "ryla") == {}
    world.past("expiry", "sheet")
    world.sweep()
    assert [trace for trace in world.traces("sheet") if not trace.startswith("celery-")] == []


def test_a_cell_whose_record_was_deleted_by_hand_does_not_hold_the_sheet_up(world: World, sheet: Sheet) -> None:
    sheet.spread()
    world.client.delete("ryla:job:sheet-front")
    for name in ("side-left", "back"):
        sheet.submit(name)
        sheet.end(name)
    assert sheet.state is State.RUNNING
    world.past("outbox", "sheet|sheet")
    assert ("deliver", "sheet", "envelope of sheet") in world.sweep().messages
    assert sheet.state is State.COLLECTING


def test_a_sheet_whose_cells_were_deleted_by_hand_ends(world: World, sheet: Sheet) -> None:
    sheet.spread()
    world.client.delete("ryla:cells:sheet")
    world.past("outbox", "sheet|sheet")
    world.sweep()
    assert sheet.state is State.COLLECTING
    record = world.record("sheet")
    assert [cell.word for cell in sheet.sheets.view(record).cells] == ["gone"] * 3
    assert conclude(record, sheet.sheets.view(record).cells, 1.0).record.state is State.FAILED


def test_a_clean_up_puts_a_sheet_back_that_is_due_nowhere(world: World, sheet: Sheet) -> None:
    sheet.spread()
    world.client.zrem("ryla:outbox", "sheet|sheet")
    assert clean(world.client, "ryla") == {"astray": 1}
    assert world.has("outbox", "sheet|sheet")


STEPS = st.lists(
    st.tuples(st.sampled_from(["make", "spread", "submit", "progress", "end", "fail", "cancel", "sweep"]),
              st.sampled_from(NAMES), st.floats(0, 99)),
    max_size=25,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_in_what_order(world: World, steps: list[tuple[str, str, float]]) -> None:
    world.client.flushall()
    sheet = Sheet(world)
    percent, ends = 0.0, 0
    for what, name, number in steps:
        before = sheet.state
        _attempt(sheet, what, name, number)
        record, words = world.record("sheet"), sheet.words
        assert record.observed.percent >= percent
        percent = record.observed.percent
        is_open = any(word == "new" or word.startswith("open") for word in words.values())
        if record.state in (State.QUEUED, State.RUNNING):
            assert is_open
            assert world.has("due:spread", "sheet") or world.has("outbox", "sheet|sheet")
        else:
            assert not is_open or record.state is State.CANCELLED
            assert world.has("due:deliver", "sheet")
        ends += before is not record.state and record.state in (State.COLLECTING, State.CANCELLED)
        for cell, word in words.items():
            found = world.client.hget(f"ryla:job:sheet-{cell}", "state")
            if word.startswith("open"):
                assert found is not None
                assert not State(found.decode()).ended
            elif word in list(State):
                assert found is None or found.decode() == word
    assert ends <= 1


def _attempt(sheet: Sheet, what: str, name: str, number: float) -> None:
    """Do it if the cell is where it can be done."""
    world, job_id = sheet.world, f"sheet-{name}"
    raw = world.client.hget(f"ryla:job:{job_id}", "state")
    state = State(raw.decode()) if raw else None
    match what:
        case "make" | "spread":
            claim = sheet.sheets.claim("sheet", lease_s=20)
            if isinstance(claim, Refused):
                return
            for one in NAMES if what == "spread" else (name,):
                sheet.cell(one)
            if what == "spread":
                sheet.sheets.spread(claim, {})
            else:
                world.past("due:spread", "sheet")
        case "submit" if state is State.QUEUED:
            sheet.submit(name)
        case "progress" if state in (State.WAITING, State.RUNNING):
            sheet.progress(name, number)
        case "end" | "fail" if state in (State.WAITING, State.RUNNING):
            sheet.end(name, well=what == "end")
        case "cancel":
            world.store.cancel("sheet")
        case "sweep":
            if world.has("outbox", "sheet|sheet"):
                world.past("outbox", "sheet|sheet")
            world.sweep()
        case _:
            return
