"""`ryla endpoints` with a history: what it shows, as table and as JSON, and its advice."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from click.testing import CliRunner

from ryla_tasks.cli.group import cli
from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import Sample
from ryla_tasks.jobs.stuck import Cause, Watch
from tests.conftest import fresh_settings
from tests.support.fleet import Fleet

TARGET = "runpod:img"


@pytest.fixture
def past(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Two days of an endpoint of one RTX 4090: 100 jobs, every fifth after a cold start, every tenth failed."""
    monkeypatch.setenv("RYLA_ENDPOINT_IMAGE", json.dumps({"endpoint_id": "img", "gpu": "RTX 4090"}))
    fresh_settings()
    now = time.time()
    for n in range(100):
        cold, outcome = n % 5 == 0, State.FAILED if n % 10 == 1 else State.COMPLETED
        sample = Sample(now - (100 - n) * 1_800, outcome, cold, 90.0 if cold else 2.0, 10.0)
        fleet.client.lpush(f"ryla:stats:{TARGET}", sample.to_json())
    watch = Watch(now - 60, Health(now - 60, {"inQueue": 3}), cause=Cause.NO_WORKER, since=now - 600, stuck=True)
    fleet.client.set(f"ryla:health:{TARGET}", watch.to_json())
    return fleet


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, ["endpoints", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_history_and_verdict_as_json(past: Fleet) -> None:
    rows = {row["target"]: row for row in json.loads(run("--json"))}
    row = rows[TARGET]
    assert row["history"]["jobs"] == 100
    assert (row["history"]["cold_share"], row["history"]["failure_rate"]) == (0.2, 0.1)
    assert row["history"]["cold_start"] == {"count": 20, "p50_s": 90.0, "p95_s": 90.0}
    assert (row["history"]["queue"]["p50_s"], row["history"]["run"]["p95_s"]) == (2.0, 10.0)
    assert row["verdict"] == "stuck: no_worker"
    assert row["watched_s_ago"] == pytest.approx(60, abs=10)
    assert row["workers"]["running"] == 0
    other = rows["runpod:echo"]
    assert (other["history"]["jobs"], other["history"]["cold_start"], other["verdict"]) == (0, None, None)


def test_history_as_a_table(past: Fleet) -> None:
    out = run()
    assert "stuck: no_worker" in out
    assert "90 s / 90 s" in out
    assert "20 %" in out
    assert "stuck" not in run("--no-history", "--no-health")


def test_advice_as_json_and_as_a_table(past: Fleet) -> None:
    row = next(row for row in json.loads(run("--advise", "--json")) if row["target"] == TARGET)
    assert (row["cold_starts"], row["cold_jobs"], row["cold_wait_s"]) == (20, 20, 1_800.0)
    assert row["enough_history"] is True
    assert row["cost_a_day_usd"] == pytest.approx(0.00031 * 86_400, abs=0.01)
    assert row["cost_a_month_usd"] == pytest.approx(30 * 0.00031 * 86_400, abs=0.01)
    assert 0 < row["extra_a_day_usd"] < row["cost_a_day_usd"]
    out = run("--advise")
    assert "would have saved at most 20 cold starts" in out
    assert "runpod:echo: No history yet: nothing can be said." in out


def test_without_redis_there_is_no_history_and_all_else(past: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    app_url = "redis://127.0.0.1:1/0"
    monkeypatch.setattr("ryla_tasks.tasks.runtime.Runtime.client", _client(app_url))
    rows = json.loads(run("--json"))
    assert [row["history"] for row in rows] == [None] * len(rows)
    assert all(row["workers"] is not None for row in rows)
    assert "No history: Redis" in run()
    result = CliRunner().invoke(cli, ["endpoints", "--advise"])
    assert result.exit_code == 5


def _client(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url, socket_timeout=1)


def test_an_old_verdict_is_shown_as_one(past: Fleet) -> None:
    then = time.time() - 7_200
    watch = Watch(then, Health(then, {"inQueue": 3}), cause=Cause.THROTTLED, since=then - 600, stuck=True)
    past.client.set(f"ryla:health:{TARGET}", watch.to_json())
    assert "stuck: throttled (then)" in run("--no-health")
