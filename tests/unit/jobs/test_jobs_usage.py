"""Sums of the ledger, what lies between an estimate and an invoice, and when a pod is cheaper: for any figures."""

from __future__ import annotations

import datetime
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.costs.period import Period
from ryla_tasks.jobs.advice import advise
from ryla_tasks.jobs.breakeven import break_even
from ryla_tasks.jobs.invoice import Amounts, explained
from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.stats import EndpointStats, Spread
from ryla_tasks.jobs.usage import MEASURES, By, Row, Usage, grouped, total

numbers = st.integers(0, 10**9)
usages = st.builds(Usage, **dict.fromkeys(MEASURES, numbers))
names = st.sampled_from(["", "a", "b"])
rows = st.lists(st.builds(Row, st.integers(400_000, 400_100), usages, names, names, names, names), max_size=20)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"]).map(ZoneInfo)
usd = st.floats(0, 1e6)


@given(rows, st.sampled_from(By), zones)
def test_groups_sum_up_to_the_whole(some: list[Row], by: By, zone: ZoneInfo) -> None:
    groups = grouped(some, by, zone)
    summed = Usage()
    for used in groups.values():
        summed += used
    assert summed == total(some)
    assert list(groups) == sorted(groups)


@given(st.integers(400_000, 500_000), zones)
def test_an_hour_is_of_the_day_in_which_it_begins_and_in_one_period_alone(hour: int, zone: ZoneInfo) -> None:
    row = Row(hour, Usage(completed=1))
    (day,) = grouped([row], By.DAY, zone)
    date = datetime.date.fromisoformat(day)

    def midnight(days: int) -> datetime.datetime:
        return datetime.datetime.combine(date + datetime.timedelta(days=days), datetime.time(), zone)

    periods = [Period(midnight(days), midnight(days + 1), midnight(5)) for days in (-1, 0, 1)]
    assert [one.first_hour <= hour < one.end_hour for one in periods] == [False, True, False]


@given(usages, usd, usd, usd, st.none() | st.floats(0.0001, 1), st.floats(0, 3600))
def test_a_difference_is_the_sum_of_its_parts(
    used: Usage, compute: float, disk: float, fee: float, price: float | None, idle_s: float
) -> None:
    invoice = Amounts(compute, disk, fee)
    why = explained(used, invoice, price, idle_s)
    assert why.total == pytest.approx(invoice.total - dollars(used.cost), abs=1e-6)
    assert why.idle >= 0 >= why.rounding
    assert why.cold <= 0
    assert why.assumed <= 0
    assert -why.cold <= dollars(used.start_cost)
    if price:
        assert why.idle <= used.attempts * idle_s * price + 1e-9


def test_idle_time_explains_no_more_than_there_can_have_been() -> None:
    used = Usage(attempts=10, run_ms=95_000, cost=1_000_000)
    why = explained(used, Amounts(compute=1.25), 0.01, 2.0)
    assert (why.rounding, why.idle, why.unknown) == pytest.approx((-0.05, 0.2, 0.1))
    less = explained(replace(used, start_cost=300_000, cost=1_300_000), Amounts(compute=1.0), 0.01, 2.0)
    assert (less.cold, less.idle) == pytest.approx((-0.25, 0.0)), "starts were not billed"


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.floats(0.1, 400), st.floats(0.01, 50))
def test_at_the_break_even_both_cost_the_same(run_ms: int, cost: int, days: float, pod: float) -> None:
    even = break_even(Usage(run_ms=run_ms, cost=cost, images=7), days, pod)
    assert even.even_h is not None
    assert even.hour_usd is not None
    assert even.even_h * even.hour_usd == pytest.approx(even.pod_a_day)
    assert even.even_images is not None
    assert ("above" in even.sentence) == (even.run_h >= even.even_h and even.even_h <= 24)


def test_without_a_price_there_is_no_break_even_and_no_cost() -> None:
    used = Usage(attempts=3, run_ms=9_000, unpriced=3, unpriced_ms=9_000, images=3)
    assert (used.usd, used.usd_per_image, break_even(used, 1, 1).even_h) == (None, None, None)
    assert "nothing can be said" in break_even(used, 1, 1).sentence


def test_trainings_are_not_in_the_cost_of_an_image() -> None:
    assert Usage(images=4, cost=9_000_000, lora_cost=8_000_000).usd_per_image == 0.25


def test_starts_that_were_paid_for_are_saved_by_a_warm_worker() -> None:
    stats = EndpointStats(
        jobs=50, since=0.0, cold_jobs=5, cold_wait_s=500.0, cold=Spread(count=5), run=Spread(total=400.0)
    )
    plain, with_starts = (advise(stats, 0.01, 86_400.0, started_s=seconds) for seconds in (0.0, 500.0))
    assert (plain.extra_a_day, with_starts.extra_a_day) == pytest.approx((860.0, 855.0))
