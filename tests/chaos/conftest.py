"""The chaos suite's own fleet settings, its choice between the whole and the short part, and its report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import fresh_settings
from tests.support.chaos.report import ROWS, SEED, WHOLE, table
from tests.support.fleet import Fleet

#: Quick polls and retries, quick sweeps, short calls; and limits that are not what is tested here.
LIMITS = {"run_per_10s": 20_000, "status_per_10s": 20_000}
ENDPOINT = {
    "endpoint_id": "echo", "poll_min_s": 0.25, "poll_max_s": 1, "retry_backoff_s": 0.2, "max_retries": 3,
    "execution_timeout_s": 300, "ttl_s": 310, "deadline_s": 600, "limits": LIMITS, "price_per_s": 0.01,
}  # fmt: skip
CHAOS = {
    "RYLA_ENDPOINT_ECHO": json.dumps(ENDPOINT),
    "RYLA_SWEEP_INTERVAL_S": "1",
    "RYLA_VISIBILITY_TIMEOUT_S": "90",
    "RYLA_HTTP_CONNECT_S": "1",
    "RYLA_HTTP_READ_S": "2",
    "RYLA_HTTP_TOTAL_S": "2",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Scenarios marked `chaos` take minutes; they run with `make chaos`."""
    if WHOLE:
        return
    left_out = [item for item in items if item.get_closest_marker("chaos")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("chaos")]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ROWS:
        terminalreporter.section(f"chaos, seed {SEED}")
        for line in table():
            terminalreporter.write_line(line)


@pytest.fixture
def chaos(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A clean fleet; workers are started with `CHAOS`, or by `quick`."""
    for name, value in CHAOS.items():
        monkeypatch.setenv(name, value)
    fresh_settings()
    # What killed workers had in their hands comes back to the queue of a later test otherwise.
    fleet.client.delete("unacked", "unacked_index", "unacked_mutex")
    fleet.reset(run_s=0.5, queue_delay_s=0.0, workers_min=200, workers_max=6000, rate_limits=False)
    yield fleet
    fleet.stop_workers()
    monkeypatch.undo()
    fresh_settings()
