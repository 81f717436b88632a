"""What the settings make of money: budgets, the hour at which a day begins, terms of a target, options of a job."""

from __future__ import annotations

import datetime
import os
from typing import Any

import pytest

from ryla_tasks.errors import InvalidJob
from ryla_tasks.jobs.record import JobSpec
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.stats import NO_STATS, EndpointStats, Sample
from ryla_tasks.settings import Endpoint, Settings, Target
from ryla_tasks.store.budgets import Terms
from ryla_tasks.tasks.budget import budgets_of, date_of, terms_of
from ryla_tasks.tasks.plan import JobOptions, JobPlan, build_spec

HISTORY = EndpointStats.of([Sample(n, State.COMPLETED, run_s=n) for n in (2.0, 4.0, 9.0)])


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("RYLA_", "RUNPOD_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RYLA_ENV_FILE", "")


def endpoint(**more: Any) -> Endpoint:
    return Endpoint(name="image", targets=(Target(endpoint_id="abc", price_per_s=0.01),), **more)


def test_the_budgets_of_the_settings() -> None:
    settings = Settings(endpoints={"image": endpoint(daily_budget_usd=2.5)}, user_daily_budget_usd=0.1)
    budgets = budgets_of(settings)
    assert budgets.over(JobSpec("t", "image", "image", user_id="ann")) == {"endpoint": 2_500_000, "user": 100_000}
    assert budgets.over(JobSpec("t", "image", "other")) == {}


@pytest.mark.parametrize(
    ("zone", "hours"), [("UTC", 0), ("Etc/GMT-14", 14), ("Etc/GMT+12", -12), ("Asia/Kolkata", 5.5)]
)
def test_a_day_begins_where_the_settings_say(zone: str, hours: float) -> None:
    assert budgets_of(Settings(timezone=zone)).offset_s() == hours * 3600


def test_the_date_of_a_day() -> None:
    day = int(datetime.datetime(2026, 2, 28, 12, tzinfo=datetime.UTC).timestamp() // 86_400)
    assert (date_of(day), date_of(day + 1)) == ("2026-02-28", "2026-03-01")


def test_the_terms_of_a_target() -> None:
    priced = {"endpoint_id": "abc", "price_per_s": 0.01}
    assert terms_of(Target(**priced), NO_STATS) == Terms(0.01, 0.01, None)
    assert terms_of(Target(**priced, bill_cold_start=False), HISTORY) == Terms(0.01, 0.0, 4.0)
    assert terms_of(Target(endpoint_id="abc"), HISTORY) is None
    assert terms_of(Target(endpoint_id="abc", price_per_s=0), HISTORY) is None


@pytest.mark.parametrize(
    ("own", "endpoints", "ceiling"),
    [(None, None, None), (0.2, None, 0.2), (None, 0.3, 0.3), (0.2, 0.3, 0.2), (9, 0.3, 0.3)],
)
def test_the_lower_ceiling_counts(own: float | None, endpoints: float | None, ceiling: float | None) -> None:
    options = JobOptions(max_cost_usd=own)
    spec = build_spec("t", JobPlan({"a": 1}), options, endpoint(max_cost_usd=endpoints), {})
    assert spec.max_cost_usd == ceiling
    assert JobSpec.from_json(spec.to_json()) == spec


def test_a_ceiling_needs_prices_everywhere() -> None:
    targets = (Target(endpoint_id="abc", price_per_s=0.01), Target(endpoint_id="def"))
    with pytest.raises(InvalidJob, match="has no price"):
        build_spec("t", JobPlan({"a": 1}), JobOptions(max_cost_usd=1), Endpoint(name="image", targets=targets), {})
