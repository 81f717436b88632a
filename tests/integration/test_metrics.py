"""`ryla metrics` as Prometheus meets it: after a real run, what it tells is what was done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

import ryla_tasks
from ryla_tasks import Job, run_endpoint
from ryla_tasks.cli import cli
from ryla_tasks.embedded import RedisServer
from ryla_tasks.errors import JobFailed
from ryla_tasks.metrics.collector import registry_of
from ryla_tasks.metrics.fleet import looking_at
from ryla_tasks.metrics.server import server
from ryla_tasks.metrics.table import METRICS
from ryla_tasks.simulator import EndpointConfig
from ryla_tasks.tasks.runtime import runtime_of
from tests.conftest import QUICK, fresh_settings
from tests.support.fleet import Fleet, eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def exporter(env: dict[str, str]) -> Iterator[str]:
    """The exporter as a process of its own; its address."""
    command = [sys.executable, "-m", "ryla_tasks.cli", "metrics", "--port", "0", "--json"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()
        assert process.wait(10) == 0, "SIGTERM ends it in order"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def scrape(url: str) -> Samples:
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    return samples_of(read_text(answer.text))


def samples_of(families: Iterator[Metric]) -> Samples:
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            at = sample.name, frozenset(sample.labels.items())
            assert at not in found, at
            found[at] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_a_scrape_tells_what_was_done(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    priced = json.dumps({**json.loads(QUICK["RYLA_ENDPOINT_ECHO"]), "price_per_s": 0.01, "daily_budget_usd": 5})
    options = {**QUICK, "RYLA_ENDPOINT_ECHO": priced}
    for name, text in options.items():
        monkeypatch.setenv(name, text)
    fresh_settings()
    fleet.reset(run_s=0.2, queue_delay_s=0.0)
    # What is sent there waits for a worker to start.
    fleet.endpoint("image").remove()
    cold_one = EndpointConfig(endpoint_id="img", workers_min=0, workers_max=1, cold_start_s=5.0, run_s=0.2)
    fleet.simulator.add_endpoint(cold_one)
    workers = [fleet.worker("--concurrency", "4", **options) for _ in range(2)]
    with exporter(fleet.env(**options)) as url:
        for worker in workers:
            worker.wait_ready()
        cold = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a secret prompt", user_id="user-42")
        done = [run_endpoint.delay("echo", {"n": n}, user_id="user-42") for n in range(4)]
        failed = run_endpoint.delay("echo", {"simulate": {"fail": "broken"}}, max_retries=0)
        tried = run_endpoint.delay("echo", {"simulate": {"fail": "CUDA error: device-side assert triggered"}})
        held = run_endpoint.apply_async(args=("echo", {"n": 9}), countdown=600)
        for result in [cold, *done]:
            result.get(timeout=40)
        for result in (failed, tried):
            with pytest.raises(JobFailed):
                result.get(timeout=40)
        retried = Job(tried.id).record.retries
        before = scrape(url)
        assert value(before, "ryla_jobs_in_flight", state="queued") == 1
        assert value(before, "ryla_line_jobs", endpoint="echo") == 1
        Job(held.id).cancel()
        # Workers hand on the calls that they have made with a sweep.
        eventually(
            lambda: (
                value(scrape(url), "ryla_provider_calls_total", target="runpod:echo", operation="run", code="200")
                == 4 + 1 + 1 + retried
            ),
            what="the calls of both workers",
        )
        found = scrape(url)
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        text = requests.get(url, headers=accept, timeout=10).text
        assert requests.get(url.replace("/metrics", "/healthz"), timeout=10).text == "ok\n"
        assert requests.get(url.replace("/metrics", "/x"), timeout=10).status_code == 404
    assert {family.name for family in read_openmetrics(text)} == {m.name.removesuffix("_total") for m in METRICS}
    assert not [secret for secret in ("secret", "user-42", done[0].id) if secret in text]

    echo, image = {"kind": "special", "endpoint": "echo"}, {"kind": "image", "endpoint": "image"}
    assert value(found, "ryla_up") == value(found, "ryla_broker_up") == 1
    assert value(found, "ryla_workers") == 2
    assert value(found, "ryla_jobs_created_total", **echo) == 7
    outcomes = {end: value(found, "ryla_jobs_ended_total", outcome=end, **echo) for end in ("completed", "failed")}
    assert outcomes == {"completed": 4, "failed": 2}
    assert value(found, "ryla_jobs_ended_total", outcome="cancelled", **echo) == 1
    assert value(found, "ryla_jobs_ended_total", outcome="completed", **image) == 1
    assert value(found, "ryla_jobs_ended_total", outcome="expired", **image) == 0
    codes = {dict(at)["code"]: n for (name, at), n in found.items() if name == "ryla_job_errors_total"}
    wanted = {Job(failed.id).error.info["code"], Job(tried.id).error.info["code"], "cancelled"}
    assert set(codes) == wanted
    assert sum(codes.values()) == 3
    assert value(found, "ryla_retries_total", level="job") == retried > 0
    assert value(found, "ryla_retries_exhausted_total", **echo) == 1
    assert value(found, "ryla_jobs_in_flight", state="queued") == 0
    assert value(found, "ryla_jobs_kept") == 8
    attempt = {**image, "target": "runpod:img"}
    assert value(found, "ryla_attempts_ended_total", outcome="completed", cold="yes", **attempt) == 1
    assert value(found, "ryla_cold_start_seconds_count", **attempt) == 1
    assert 4.9 <= value(found, "ryla_cold_start_seconds_sum", **attempt) <= 7
    assert value(found, "ryla_cold_start_seconds_bucket", le="2.5", **attempt) == 0
    assert value(found, "ryla_cold_start_seconds_bucket", le="10.0", **attempt) == 1
    assert value(found, "ryla_run_seconds_count", target="runpod:echo", **echo) == 4
    assert value(found, "ryla_run_seconds_sum", target="runpod:echo", **echo) == pytest.approx(0.8, abs=0.05)
    assert value(found, "ryla_job_seconds_count", **echo) == 4
    assert value(found, "ryla_line_wait_seconds_count", endpoint="echo") == 4 + 1 + 1 + retried
    assert value(found, "ryla_attempts_total") == value(found, "ryla_submits_total") == 7 + retried
    polls = sum(fleet.endpoint("echo").counters().calls["status"].values())
    assert value(found, "ryla_poll_lateness_seconds_count", target="runpod:echo") == polls
    cost = sum(Job(one.id).record.money.paid for one in [*done, failed, tried]) / 1e6
    assert (
        value(found, "ryla_cost_usd_total", **echo)
        == pytest.approx(cost)
        == pytest.approx(value(found, "ryla_spent_today_usd", endpoint="echo"))
    )
    assert value(found, "ryla_budget_usd", endpoint="echo") == 5
    assert value(found, "ryla_queue_messages", queue="ryla.polls") == 0
    # Counters never go back, and nothing goes away.
    assert set(before) <= set(found) | {at for at in before if at[0].startswith("ryla_target_")}
    for (name, at), n in before.items():
        if name.endswith("_total"):
            assert found[name, at] >= n, name


def test_a_delivery_that_comes_twice_counts_once(served: Fleet) -> None:
    result = run_endpoint.delay("echo", {"n": 1})
    result.get(timeout=30)
    look = looking_at(runtime_of(ryla_tasks.app))
    before = look().fleet
    runtime = runtime_of(ryla_tasks.app)
    assert before.tallies["ended"] == {("special", "echo", "completed", "none"): 1}
    # The whole message once more, as after a worker that died before it acknowledged it; and a poll that is late.
    app = ryla_tasks.app
    app.send_task("ryla.run_endpoint", args=("echo", {"n": 1}), task_id=result.id, queue="ryla.jobs")
    app.send_task("ryla.poll", args=("runpod:echo",), queue="ryla.polls")
    run_endpoint.delay("echo", {"n": 2}).get(timeout=30)
    eventually(lambda: not any((look().messages or {"": 1}).values()), what="all messages taken")
    after = looking_at(runtime)().fleet
    assert after.tallies["ended"] == {("special", "echo", "completed", "none"): 2}
    assert after.tallies["created"] == {("special", "echo"): 2}
    assert sum(after.tallies["attempts"].values()) == 2


def test_redis_away_and_back(tmp_path: Path) -> None:
    with RedisServer(fsync="always") as redis:
        env = {**os.environ, "RYLA_ENV_FILE": "", "RYLA_REDIS_URL": redis.url, "RYLA_REDIS_TIMEOUT_S": "1"}
        with exporter(env) as url:
            assert value(scrape(url), "ryla_up") == 1
            redis.stop()
            gone = scrape(url)
            assert gone == {("ryla_up", frozenset()): 0}
            redis.start()
            eventually(lambda: value(scrape(url), "ryla_up") == 1, what="Redis is back")
            assert value(scrape(url), "ryla_broker_up") == 1


def test_once_prints_all_and_ends(served: Fleet) -> None:
    result = CliRunner().invoke(cli, ["metrics", "--once"], catch_exceptions=False)
    assert value(samples_of(read_text(result.stdout)), "ryla_up") == 1
    rows = [json.loads(line) for line in CliRunner().invoke(cli, ["metrics", "--once", "--json"]).stdout.splitlines()]
    assert {"name": "ryla_up", "labels": {}, "value": 1.0} in rows


def test_a_port_that_is_taken_is_said(served: Fleet) -> None:
    taken = server("127.0.0.1", 0, registry_of(looking_at(runtime_of(ryla_tasks.app))))
    with taken:
        result = CliRunner().invoke(cli, ["metrics", "--port", str(taken.server_port)])
    assert result.exit_code == 3
    assert f"Cannot listen on 127.0.0.1 port {taken.server_port}" in result.output
