"""Workers killed or frozen while they make a sheet's cells, or end it: every cell is submitted once, and it ends."""

from __future__ import annotations

import signal

import pytest

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import SubmitOutcomeUnknown
from ryla_tasks.jobs.states import State
from tests.support.chaos.victims import quick_worker, victim, wait_struck
from tests.support.fleet import Fleet, eventually
from tests.support.pictures import picture

ANGLES = ["front", "side-left", "side-right", "back"]

#: In the long part: the other places where a sheet and the world can differ.
LONG = [
    ("after_deliver_settle_before_return", 5),
    ("after_spread_claim", 1), ("after_cell_before_next", 1), ("after_cells_before_spread_settle", 1),
    ("after_deliver_settle_before_return", 1), ("after_deliver_settle_before_return", 4),
    ("after_artifacts_before_settle", 5), ("after_return_before_delivered", 5), ("after_poll_settle_before_message", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("point", "nth", "mode"),
    [
        ("after_cell_before_next", 2, "kill"),
        *(pytest.param(*case, mode, marks=pytest.mark.chaos) for case in LONG for mode in ("kill", "freeze")),
    ],
)
def test_a_worker_struck_at(chaos: Fleet, point: str, nth: int, mode: str) -> None:
    wish = {"image": picture(), "angles": ANGLES, "width": 64, "height": 64, "on_unknown": "fail"}
    worker = victim(chaos, point, nth, mode, RYLA_SWEEP_INTERVAL_S="1").wait_ready()
    result = ryla_tasks.make_character_sheet.delay(**wish)
    wait_struck(worker, mode)
    quick_worker(chaos, RYLA_SWEEP_INTERVAL_S="1").wait_ready()
    eventually(lambda: Job.get(result.id).record.delivered, timeout=60, what="Celery was told")
    ending = Job.get(result.id).record.ending
    if mode == "freeze":
        worker.signal(signal.SIGCONT)
        assert ryla_tasks.make_character_sheet.delay(**wish).get(timeout=60)["cells"], "it works on beside the other"
    assert Job.get(result.id).record.ending == ending
    cells = [Job.get(f"{result.id}-{angle}") for angle in ANGLES]
    # Another thread of the worker may have had a cell's POST in its hands: nobody knows what became of it.
    unanswered = [cell for cell in cells if isinstance(cell.error, SubmitOutcomeUnknown)]
    assert all(cell.status is State.COMPLETED for cell in cells if cell not in unanswered)
    assert len(unanswered) < 4
    counters, sheets = chaos.endpoint("special").counters(), 2 if mode == "freeze" else 1
    assert 4 * sheets - len(unanswered) <= counters.accepted <= 4 * sheets
    assert counters.duplicates == 0
