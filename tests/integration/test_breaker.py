"""The breaker of a target, through a worker process."""

from __future__ import annotations

import json

from click.testing import CliRunner

import ryla_tasks
from ryla_tasks.cli.group import cli
from ryla_tasks.jobs.breaker import HELD, Breaker
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer
from ryla_tasks.store.breakers import BreakerStore
from tests.support.fleet import Fleet, eventually

ECHO = {"targets": [{"endpoint_id": "echo"}], "max_retries": 1, "retry_backoff_s": 0.2, "poll_min_s": 0.25}
SETTINGS = {
    "RYLA_ENDPOINT_ECHO": json.dumps(ECHO),
    "RYLA_BREAKER_PAUSE_S": "1",
    "RYLA_SWEEP_INTERVAL_S": "1",
}


def counter(fleet: Fleet, name: str) -> int:
    return int(fleet.client.hget("ryla:counters", name) or 0)


def test_an_endpoint_in_trouble_gets_no_more_submits_until_a_probe_goes_well(fleet: Fleet) -> None:
    """Ten failed submits open it; the jobs behind them stay queued, are told, and run when a probe has closed it."""
    fleet.endpoint("echo").add_fault(Answer(op="run", status=500, times=11))
    worker = fleet.worker("--concurrency", "4", **SETTINGS).wait_ready()
    wish = {"simulate": {"seconds": 0.1}}
    lost = [ryla_tasks.run_endpoint.delay("echo", wish, on_unknown="fail") for _ in range(10)]
    eventually(lambda: "breaker.open target=runpod:echo why=run" in worker.text, what=worker.text[-500:])
    held = [ryla_tasks.run_endpoint.delay("echo", wish, on_unknown="fail") for _ in range(20)]
    jobs = [ryla_tasks.Job.get(result.id) for result in held]
    eventually(lambda: any(job.progress.message == HELD for job in jobs))
    store = BreakerStore(fleet.client, prefix="ryla")
    assert store.load("runpod:echo")[0].is_open
    eventually(lambda: "breaker.closed target=runpod:echo" in worker.text, timeout=30)
    eventually(lambda: all(ryla_tasks.Job.get(result.id).status.ended for result in (*lost, *held)), timeout=30)
    told = sum(any(event.data.get("message") == HELD for event in job.events()) for job in jobs)
    assert told >= 10, "the jobs in line are told, not only the one whose turn it is"
    ends = [ryla_tasks.Job.get(result.id).status for result in held]
    assert ends.count(State.COMPLETED) == 19, "but for the probe that met the last fault"
    assert all(ryla_tasks.Job.get(result.id).record.retries == 0 for result in held)
    calls = fleet.endpoint("echo").counters().calls["run"]
    assert calls == {500: 11, 200: 19}, "one call more than opened it: the probe"
    assert "breaker.probe_failed target=runpod:echo pause_s=2" in worker.text
    assert (counter(fleet, "breaker_opened"), counter(fleet, "breaker_closed"), counter(fleet, "probes")) == (1, 1, 2)
    assert not store.load("runpod:echo")[0].is_open


def test_ryla_endpoints_shows_that_a_target_is_held_back(fleet: Fleet) -> None:
    store = BreakerStore(fleet.client, prefix="ryla")
    before, now = store.load("runpod:echo")
    assert store.change("runpod:echo", before, Breaker(opened=now, until=now + 40, pause_s=40))
    shown = CliRunner().invoke(cli, ["endpoints", "--no-health", "--json"], catch_exceptions=False)
    rows = {row["target"]: row["breaker"] for row in json.loads(shown.stdout)}
    assert rows["runpod:echo"]["why"] == "run"
    assert 30 < rows["runpod:echo"]["probe_in_s"] <= 40
    assert rows["runpod:img"] is None
    table = CliRunner().invoke(cli, ["endpoints", "--no-health"], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert "held back" in table.stdout
