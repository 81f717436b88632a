"""The money guard through worker processes: what is not sent, what is stopped, what is told, what a job has cost."""

from __future__ import annotations

import json
import math
import re
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from celery.result import AsyncResult
from click.testing import CliRunner

import ryla_tasks
from ryla_tasks.cli.group import cli
from ryla_tasks.errors import BudgetExceeded, InvalidJob
from ryla_tasks.jobs.budget import Ceiling, stopped
from ryla_tasks.jobs.record import CancelReason
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import Sample
from ryla_tasks.store.codec import Meta
from ryla_tasks.store.jobs import JobStore
from ryla_tasks.store.targets import TargetStore
from tests.conftest import fresh_settings
from tests.support.chaos.victims import wait_struck
from tests.support.fleet import ENDPOINTS, Fleet, WorkerProcess, eventually

#: A cent a second: with the 15 s that a run is expected to take, a job reserves 15 cents.
PRICE = 0.01
PRICED = {
    name: {"endpoint_id": endpoint_id, "price_per_s": PRICE, "poll_min_s": 0.25, "poll_max_s": 0.5, "max_retries": 0}
    for name, (endpoint_id, _program) in ENDPOINTS.items()
}


@pytest.fixture
def priced(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkerProcess]:
    """Starts a worker whose endpoints have prices, with more settings; this process has the same."""

    def start(echo: dict[str, Any] | None = None, **more: str) -> WorkerProcess:
        endpoints = {**PRICED, "echo": {**PRICED["echo"], **(echo or {})}}
        env = {f"RYLA_ENDPOINT_{name.upper()}": json.dumps(one) for name, one in endpoints.items()}
        env |= {"RYLA_SWEEP_INTERVAL_S": "1", "RYLA_HEALTH_INTERVAL_S": "1", **more}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        fresh_settings()
        return fleet.worker("--concurrency", "4", **env).wait_ready()

    return start


@pytest.fixture(autouse=True)
def settings_of_before() -> Any:
    yield
    fresh_settings()


def echo(seconds: float = 0.2, **options: Any) -> AsyncResult[Any]:
    return ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": seconds}}, **options)


def job(result: AsyncResult[Any]) -> ryla_tasks.Job:
    return ryla_tasks.Job.get(result.id)


def shown(*arguments: str) -> Any:
    return json.loads(CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False).stdout)


def counter(fleet: Fleet, name: str) -> int:
    return int(fleet.client.hget("ryla:counters", name) or 0)


def test_a_burst_stops_at_the_days_budget_and_the_operator_is_told_once(
    fleet: Fleet, priced: Callable[..., WorkerProcess]
) -> None:
    """Of 200 jobs, each expected to cost 15 cents, 7.50 dollars let 50 through: to the cent, with two workers."""
    workers = [priced({"daily_budget_usd": 7.5}), priced({"daily_budget_usd": 7.5})]
    results = [echo(60.0, user_id=f"u{n % 7}") for n in range(200)]

    def refused() -> bool:
        return counter(fleet, "budget_refused") == 150

    eventually(refused, timeout=40, what="150 refused")
    ends = Counter(str(job(result).status) for result in results)
    assert ends["failed"] == 150
    eventually(lambda: fleet.endpoint("echo").counters().accepted == 50, what="50 submitted")
    told = Counter()
    for result in results:
        if job(result).status is State.FAILED:
            with pytest.raises(BudgetExceeded) as caught:
                result.get(timeout=20)
            told[caught.value.info["code"]] += 1
            assert caught.value.details == {"ceiling_usd": 7.5, "spent_usd": 7.5, "expected_usd": 0.15}
    assert told == {"budget_endpoint": 150}
    row = next(row for row in shown("endpoints", "--no-health") if row["endpoint"] == "echo")
    assert row["daily_budget_usd"] == 7.5
    assert row["spent_today_usd"] >= 7.5, "what runs longer than was expected has come to cost more by now"
    table = CliRunner().invoke(cli, ["endpoints", "--no-health"], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert re.search(r"\$7\.50 \(1\d\d %\)", table.stdout), table.stdout
    alerts = [alert.data for alert in TargetStore(fleet.client, prefix="ryla").alerts() if alert.type == "budget"]
    assert sorted((alert["endpoint"], alert["threshold"]) for alert in alerts) == [
        ("echo", 0.5), ("echo", 0.8), ("echo", 1.0),
    ]  # fmt: skip
    log, what = "".join(worker.text for worker in workers), f"budget.threshold endpoint=echo day={alerts[0]['day']}"
    assert [log.count(f"{what} threshold={at} ") for at in (0.5, 0.8, 1)] == [1, 1, 1]
    assert fleet.endpoint("echo").counters().accepted == 50


def test_one_users_budget_is_used_up_and_anothers_jobs_go_on(
    fleet: Fleet, priced: Callable[..., WorkerProcess]
) -> None:
    priced(RYLA_USER_DAILY_BUDGET_USD="0.35")
    anns = [echo(30.0, user_id="ann") for _ in range(10)]
    bob = echo(user_id="bob")
    assert bob.get(timeout=20)["cost"]["usd"] == PRICE
    eventually(lambda: [job(one).status for one in anns].count(State.FAILED) == 8)
    assert fleet.endpoint("echo").counters().accepted == 3
    error = next(job(one).error for one in anns if job(one).status is State.FAILED)
    assert error.info["code"] == "budget_user"
    assert str(error) == "The job was not started: your budget for today is used up."
    # What bob's job did not need is his again.
    for _ in range(3):
        assert echo(user_id="bob").get(timeout=20)["cost"]["usd"] == PRICE
    assert job(bob).cost == PRICE


def test_a_running_job_over_its_ceiling_is_cancelled_at_the_remote(
    fleet: Fleet, priced: Callable[..., WorkerProcess]
) -> None:
    worker = priced()
    usual_run_is_a_second(fleet)
    assert echo().get(timeout=20)["cost"]["usd"] == PRICE, "the worker knows the history by now"
    never = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"never_end": True}}, max_cost_usd=0.03)
    eventually(lambda: job(never).status is State.RUNNING)
    assert job(never).record.money.reserved == 10_000
    eventually(lambda: job(never).cost > PRICE)
    line = CliRunner().invoke(cli, ["show", never.id], catch_exceptions=False).stdout
    assert "so far" in line
    assert "at most $0.03" in line
    with pytest.raises(BudgetExceeded) as caught:
        never.get(timeout=20)
    assert caught.value.info["code"] == "budget_job"
    assert str(caught.value) == "The job was stopped: it came to cost more than it may."
    assert caught.value.details["ceiling_usd"] == 0.03
    record = job(never).record
    assert (record.state, record.attempt) == (State.FAILED, 1)
    assert fleet.endpoint("echo").counters().cancels == 1
    assert fleet.endpoint("echo").counters().ended["CANCELLED"] == 1
    assert 0.04 <= job(never).cost <= 0.1
    assert shown("show", never.id)["cost_usd"] == job(never).cost
    assert worker.text.count("budget.stopped") == 1
    assert counter(fleet, "budget_stopped") == 1


def usual_run_is_a_second(fleet: Fleet) -> None:
    for n in range(5):
        fleet.client.lpush(
            "ryla:stats:runpod:echo", Sample(n * 100.0, State.COMPLETED, delay_s=0.0, run_s=1.0).to_json()
        )


def test_a_running_job_that_outgrows_the_days_budget_is_stopped(
    fleet: Fleet, priced: Callable[..., WorkerProcess]
) -> None:
    priced({"daily_budget_usd": 0.04}, RYLA_ENDPOINT_OTHER=json.dumps(PRICED["echo"]))
    usual_run_is_a_second(fleet)
    other = ryla_tasks.run_endpoint.delay("other", {"simulate": {"seconds": 0.2}})
    assert other.get(timeout=20)["cost"]["usd"] == PRICE, "the same target by another name, with a budget of its own"
    never = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"never_end": True}})
    with pytest.raises(BudgetExceeded) as caught:
        never.get(timeout=20)
    assert caught.value.info["code"] == "budget_endpoint"
    assert job(never).error.info == caught.value.info
    assert fleet.endpoint("echo").counters().cancels == 1


def test_two_jobs_that_wait_for_the_same_start_pay_it_once(fleet: Fleet, priced: Callable[..., WorkerProcess]) -> None:
    fleet.reset(workers_min=0, workers_max=1, cold_start_s=4.0, queue_delay_s=0.0)
    priced()
    results = [echo(1.0) for _ in range(2)]
    costs = [result.get(timeout=40)["cost"] for result in results]
    first, second = sorted(costs, key=lambda cost: -cost["cold_s"])
    assert 3.9 <= first["cold_s"] <= 5.0
    assert first["cold_usd"] == PRICE * math.ceil(first["cold_s"])
    assert first["usd"] == pytest.approx(first["execution_usd"] + first["cold_usd"])
    assert (second["cold_s"], second["cold_usd"], second["usd"]) == (0.0, 0.0, second["execution_usd"])
    spent = next(row for row in shown("endpoints", "--no-health") if row["endpoint"] == "echo")["spent_today_usd"]
    assert spent == pytest.approx(first["usd"] + second["usd"])
    assert sorted(job(result).cost for result in results) == sorted(cost["usd"] for cost in costs)


def test_a_job_that_is_stopped_while_its_output_is_looked_at_ends_for_celery_as_in_its_record(
    fleet: Fleet, priced: Callable[..., WorkerProcess]
) -> None:
    worker = priced(RYLA_CRASHPOINT="after_artifacts_before_settle:1:freeze")
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"no_output": True}})
    wait_struck(worker, "freeze")
    store = JobStore(fleet.client, prefix="ryla", meta=Meta("celery-task-meta-", 1000))
    assert store.cancel(result.id, CancelReason.BUDGET, stopped(Ceiling.ENDPOINT))[0] == "over"
    worker.signal(signal.SIGCONT)
    with pytest.raises(BudgetExceeded) as caught:
        result.get(timeout=20)
    assert caught.value.info["code"] == job(result).error.info["code"] == "budget_endpoint"


def test_the_budget_begins_anew_at_midnight_of_the_time_zone(
    fleet: Fleet, priced: Callable[..., WorkerProcess]
) -> None:
    """Between the westernmost and the easternmost zone there is always a midnight."""
    budget = {"daily_budget_usd": 0.2}
    west = priced(budget, RYLA_TIMEZONE="Etc/GMT+12")
    first = echo(60.0)
    eventually(lambda: job(first).status is State.RUNNING)
    with pytest.raises(BudgetExceeded):
        echo().get(timeout=20)
    west.kill()
    priced(budget, RYLA_TIMEZONE="Etc/GMT-14")
    assert echo().get(timeout=20)["cost"]["usd"] == PRICE
    days = {int(key.rsplit(b":", 1)[1]) for key in fleet.client.keys("ryla:spend:*")}
    assert len(days) == 2
    assert job(first).status is State.RUNNING


def test_costs_are_in_record_and_result_without_any_budget(fleet: Fleet, priced: Callable[..., WorkerProcess]) -> None:
    priced()
    result = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="x")
    cost = result.get(timeout=20)["cost"]
    assert cost == {
        "usd": PRICE, "billed_s": 1, "cold_s": 0.0, "execution_usd": PRICE, "cold_usd": 0.0, "earlier_usd": 0.0,
        "price_per_s": PRICE,
    }  # fmt: skip
    assert job(result).cost == PRICE
    failing = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 1.5, "fail": "no"}})
    eventually(lambda: job(failing).status is State.FAILED)
    assert job(failing).cost == 2 * PRICE


def test_a_ceiling_that_nobody_could_keep_is_refused(fleet: Fleet) -> None:
    with pytest.raises(InvalidJob, match="max_cost_usd: cannot be kept") as caught:
        echo(max_cost_usd=1.0)
    assert caught.value.field == "max_cost_usd"
