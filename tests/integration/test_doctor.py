"""`ryla doctor` on a fleet that is well, and on many that are not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

import ryla_tasks
from ryla_tasks.doctor import CHECKS, Finding, Level, look_over
from ryla_tasks.doctor.rounds import Check
from tests.conftest import fresh_settings
from tests.support.fleet import Fleet

Set = Callable[..., None]
BY_NAME = {check.name: check for check in CHECKS}


@pytest.fixture
def set_(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Set]:
    """Changes settings of this process."""

    def change(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        fresh_settings()

    yield change
    monkeypatch.undo()
    fresh_settings()


@pytest.fixture
def redis_set(fleet: Fleet) -> Iterator[Callable[[str, str], None]]:
    """Changes Redis's configuration until the end of the test."""
    client: Any = fleet.client
    before: dict[str, str] = {}

    def change(name: str, value: str) -> None:
        before.setdefault(name, client.config_get(name)[name])
        client.config_set(name, value)

    yield change
    for name, value in before.items():
        client.config_set(name, value)


def found(*names: str) -> list[Finding]:
    return [one for one in look_over([BY_NAME[name] for name in names]) if one.check != "settings"]


def the_problem(name: str) -> str:
    (bad,) = [one for one in found(name) if one.level is Level.PROBLEM]
    assert bad.advice
    return bad.says


def the_warning(name: str) -> str:
    (bad,) = [one for one in found(name) if one.level is Level.WARNING]
    assert bad.advice
    return bad.says


def ryla(fleet: Fleet, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ryla_tasks.cli", "doctor", "--json"]
    return subprocess.run(command, env=fleet.env(**env), capture_output=True, text=True, timeout=60, check=False)


def test_a_fleet_that_is_well(fleet: Fleet) -> None:
    # The bindings that apps of other tests have left.
    for key in fleet.client.scan_iter("_kombu.binding.*"):
        fleet.client.delete(key)
    fleet.worker().wait_ready()
    done = ryla(fleet, RYLA_ALERT_URLS="json://someone:topsecret@127.0.0.1:9/x")
    rows = json.loads(done.stdout)
    assert {row["check"] for row in rows} == {"settings", *BY_NAME}
    assert [row for row in rows if row["level"] != "ok"] == []
    assert done.returncode == 0
    assert "topsecret" not in done.stdout


def test_settings_that_are_wrong_are_all_named(fleet: Fleet) -> None:
    done = ryla(fleet, RYLA_SWEEP_INTERVAL_S="99", RYLA_WORKER_CONCURRENCY="1", RYLA_ALERT_URLS="topsecret")
    rows = json.loads(done.stdout)
    assert [row["check"] for row in rows] == ["settings"] * 3
    assert all(row["level"] == "problem" for row in rows)
    said = " ".join(row["says"] for row in rows)
    for name in ("RYLA_SWEEP_INTERVAL_S", "RYLA_WORKER_CONCURRENCY", "RYLA_ALERT_URLS"):
        assert name in said
    assert "topsecret" not in done.stdout
    assert done.returncode == 1


def test_redis_that_may_lose_jobs(set_: Set, redis_set: Callable[[str, str], None]) -> None:
    redis_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in the_problem("redis eviction")
    redis_set("appendonly", "no")
    redis_set("save", "")
    assert "nothing is written to disk" in the_problem("redis persistence")
    redis_set("save", "60 1")
    assert "appendonly is no" in the_warning("redis persistence")
    set_(RYLA_DURABLE_INTENT="aof")
    assert "appendonly is no" in the_problem("redis persistence")


def test_redis_that_is_full(fleet: Fleet, set_: Set, redis_set: Callable[[str, str], None]) -> None:
    client: Any = fleet.client
    redis_set("maxmemory", str(round(client.info("memory")["used_memory"] * 1.1)))
    assert "filling up" in the_warning("redis memory")


def test_redis_that_is_away(fleet: Fleet) -> None:
    done = ryla(fleet, RYLA_REDIS_URL="redis://127.0.0.1:9/0")
    rows = json.loads(done.stdout)
    levels = {row["check"]: row["level"] for row in rows}
    assert levels["redis version"] == levels["redis latency"] == levels["workers"] == "problem"
    assert levels["endpoints"] == levels["versions"] == "ok", "one check that fails stops no other"
    assert done.returncode == 1


def test_a_clock_that_is_wrong(set_: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 30)
    assert "30.0 s ahead" in the_warning("clock")


def test_a_key_that_is_missing_or_wrong(set_: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    set_(RUNPOD_API_KEY="wrong-key-topsecret")
    bad = [one for one in found("endpoints") if one.level is Level.PROBLEM]
    assert len(bad) == 4
    assert "refuses the API key" in bad[0].says
    assert "topsecret" not in str(bad)
    monkeypatch.delenv("RUNPOD_API_KEY")
    fresh_settings()
    bad = [one for one in found("endpoints") if one.level is Level.PROBLEM]
    assert "RUNPOD_API_KEY is not set" in bad[0].says


def test_endpoints_that_cannot_run_jobs(fleet: Fleet, set_: Set) -> None:
    fleet.endpoint("lora").update(workers_min=0, workers_max=0)
    assert the_problem("endpoint setup").startswith("lora (runpod:lora): its maximum of workers is 0")
    fleet.endpoint("lora").update(workers_min=1, workers_max=3)
    fleet.endpoint("image").update(volumes=[])
    assert "image (runpod:img): no network volume" in the_warning("endpoint setup")
    set_(RYLA_ENDPOINT_IMAGE="nosuch")
    assert "image (runpod:nosuch)" in the_problem("endpoints")


def test_times_that_do_not_fit(set_: Set) -> None:
    set_(
        RYLA_ENDPOINT_LORA='{"endpoint_id": "lora", "execution_timeout_s": 600}',
        RYLA_ENDPOINT_IMAGE='{"endpoint_id": "img", "deadline_s": 60}',
    )
    bad = [one.says for one in found("time-outs") if one.level is Level.WARNING]
    assert len(bad) == 2
    assert any("lora: execution_timeout_s is 600" in one for one in bad)
    assert any("image: deadline_s (60) is shorter" in one for one in bad)


def test_queues_without_a_worker(fleet: Fleet, set_: Set) -> None:
    bad = [one.says for one in found("workers") if one.level is Level.PROBLEM]
    assert [one.split()[4].rstrip(",") for one in bad] == ["ryla.jobs", "ryla.polls", "ryla.maintenance"]
    ryla_tasks.run_endpoint.delay("echo", {"n": 1})
    assert "no live worker serves ryla.jobs, where 1 messages wait" in [one.says for one in found("workers")]
    fleet.worker("-Q", "ryla.jobs,ryla.polls").wait_ready()
    assert "ryla.maintenance" in the_problem("workers")


def test_a_database_that_is_shared(fleet: Fleet, set_: Set) -> None:
    other = Celery("other", broker=fleet.redis.url, set_as_current=False)
    with other.connection_for_write() as connection:
        other.amqp.queues.select_add("their.queue").bind(connection.default_channel).declare()
    assert "their.queue" in the_warning("shared database")
    fleet.client.delete("_kombu.binding.celery")
    hours = fleet.worker(RYLA_VISIBILITY_TIMEOUT_S="3600").wait_ready()
    assert f"the worker {hours.name} has a visibility time-out of 3600 s, not 300 s" in the_problem("shared database")


def test_places_that_are_wrong(set_: Set, tmp_path: Any) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    set_(
        RYLA_ARTIFACTS=f"file://{blocked}/below", RYLA_WEBHOOK_SECRET="x" * 20, RYLA_WEBHOOK_URL="http://10.0.0.3/hook"
    )
    assert "cannot be used" in the_problem("artifacts")
    assert "10.0.0.3" in the_problem("webhook")
    set_(RYLA_WEBHOOK_URL="http://hooks.example.com/ryla", RYLA_ALERT_URLS="nosuch://topsecret")
    assert "not https" in the_warning("webhook")
    assert "topsecret" not in the_problem("alerts")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{")
    set_(RYLA_TEMPLATES_DIR=str(tmp_path))
    assert the_problem("templates")


def test_a_flower_that_anybody_may_use(set_: Set) -> None:
    set_(FLOWER_PORT="5555")
    assert "without a login" in the_warning("flower")
    set_(FLOWER_BASIC_AUTH="me:topsecret")
    assert [one.level for one in found("flower")] == [Level.OK]
    set_(FLOWER_UNAUTHENTICATED_API="true")
    assert "FLOWER_UNAUTHENTICATED_API" in the_problem("flower")


def test_a_check_that_hangs_or_breaks_stops_no_other(set_: Set) -> None:
    import threading

    release = threading.Event()

    def hangs(_runtime: object) -> list[Finding]:
        release.wait(30)
        return []

    def breaks(_runtime: object) -> list[Finding]:
        raise KeyError("x")

    checks = [
        Check("hangs", hangs, 0.3),
        Check("breaks", breaks, 0.3),
        Check("well", BY_NAME["redis version"].look, 1.0),
    ]
    try:
        says = {one.check: one for one in look_over(checks)}
    finally:
        release.set()
    assert "no answer within 0.3 s" in says["hangs"].says
    assert "KeyError" in says["breaks"].says
    assert says["well"].level is Level.OK
