"""`ryla clean`: says what it found, changes nothing in a dry run, and a job that was astray goes on to its end."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import ryla_tasks
from ryla_tasks.cli import cli
from ryla_tasks.cli.exits import Exit
from tests.conftest import QUICK
from tests.support.fleet import Fleet


def clean(*options: str) -> str:
    result = CliRunner().invoke(cli, ["clean", *options])
    assert result.exit_code == Exit.OK, result.output
    return result.stdout


def test_nothing_to_clean(fleet: Fleet) -> None:
    ryla_tasks.run_endpoint.delay("echo", {"n": 1}, user_id="ann")
    assert clean() == "Nothing to clean.\n"
    assert json.loads(clean("--json")) == {
        "dry_run": False,
        "found": {"expired": 0, "forgotten": 0, "astray": 0, "entries": 0, "keys": 0},
    }


def test_what_is_left_over_goes_and_what_is_astray_comes_to_its_end(fleet: Fleet) -> None:
    gone, astray = (ryla_tasks.run_endpoint.delay("echo", {"n": n}, user_id="ann") for n in range(2))
    fleet.client.delete(f"ryla:job:{gone.id}")
    fleet.client.zrem("ryla:due:submit:echo", astray.id)
    fleet.client.delete("ryla:outbox", *fleet.client.scan_iter("ryla.jobs*"))
    dry = clean("--dry-run").splitlines()
    assert dry[-1] == "Nothing was changed: this was a dry run."
    assert "1 jobs under way that were due nowhere, put back in line" in dry
    assert clean().splitlines() == dry[:-1]
    assert clean() == "Nothing to clean.\n"
    assert [record.job_id for record in ryla_tasks.list_jobs(user_id="ann")] == [astray.id]
    fleet.worker("--concurrency", "2", **QUICK)
    assert astray.get(timeout=40)["data"]["n"] == 1


def test_redis_away_is_one_line(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.redis.kill()
    try:
        result = CliRunner().invoke(cli, ["clean"])
    finally:
        fleet.redis.start()
    assert result.exit_code == Exit.UNREACHABLE
    assert result.stderr.startswith("Error: ")
