"""Workers killed while they make a sheet's cells, and while they end it: every cell is submitted once, and it ends."""

from __future__ import annotations

import pytest

import ryla_tasks
from ryla_tasks import Job
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
    ("point", "nth"),
    [
        ("after_cell_before_next", 2),
        *(pytest.param(*case, marks=pytest.mark.chaos) for case in LONG),
    ],
)
def test_a_worker_killed_at(chaos: Fleet, point: str, nth: int) -> None:
    wish = {"image": picture(), "angles": ANGLES, "width": 64, "height": 64}
    worker = victim(chaos, point, nth, RYLA_SWEEP_INTERVAL_S="1").wait_ready()
    result = ryla_tasks.make_character_sheet.delay(**wish)
    wait_struck(worker)
    quick_worker(chaos, RYLA_SWEEP_INTERVAL_S="1").wait_ready()
    value = result.get(timeout=60)
    assert [cell["status"] for cell in value["cells"]] == ["completed"] * 4
    assert chaos.endpoint("special").counters().accepted == 4
    eventually(lambda: Job.get(result.id).record.delivered, what="Celery was told")
