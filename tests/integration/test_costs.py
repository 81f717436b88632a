"""`ryla costs` after a fleet has done all sorts of things: the ledger is the sum of the accounts, to the millionth."""

from __future__ import annotations

import csv
import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel, ConfigDict

import ryla_tasks
from ryla_tasks.cli.group import cli
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.usage import By, Usage, grouped, total
from ryla_tasks.settings import get_settings
from ryla_tasks.simulator import CrashWorker, EndpointConfig
from ryla_tasks.store.usage import UsageStore
from tests.conftest import fresh_settings
from tests.support.browser import launched
from tests.support.fleet import Fleet, eventually
from tests.support.messages import envelope_of, poll_again, queued, send_again
from tests.support.pictures import picture

PRICES = {"img": 0.01, "echo": 0.02, "spare": 0.03}
#: A spreadsheet would run it, and a browser too.
NASTY = '=cmd|"<script>document.title=1</script>"'
QUICK = {"poll_min_s": 0.25, "poll_max_s": 0.5, "retry_backoff_s": 0.2}
ENDPOINTS = {
    "image": {**QUICK, "endpoint_id": "img", "price_per_s": PRICES["img"], "pod_price_per_h": 9.0},
    "echo": {**QUICK, "targets": [{"endpoint_id": one, "price_per_s": PRICES[one]} for one in ("echo", "spare")]},
    "special": {**QUICK, "endpoint_id": "spc"},
}
ENVIRONMENT = {f"RYLA_ENDPOINT_{name.upper()}": json.dumps(one) for name, one in ENDPOINTS.items()} | {
    "RYLA_SWEEP_INTERVAL_S": "1",
    "RYLA_HEALTH_INTERVAL_S": "1",
    "RYLA_STUCK_AFTER_S": "2",
    "RYLA_TIMEZONE": "Asia/Kolkata",
}


@pytest.fixture(scope="module")
def spent(whole_fleet: Fleet) -> Iterator[Fleet]:
    """A fleet whose jobs have completed, failed, been tried again, left their target, and been stopped; with a worker
    that was killed and messages that came twice."""
    fleet, patch = whole_fleet, pytest.MonkeyPatch()
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)
    fresh_settings()
    fleet.stop_workers()
    fleet.reset()
    for name in ("image", "echo"):
        fleet.endpoint(name).remove()
    cold = {"cold_start_s": 4.0, "run_s": 0.5, "steps": 4, "redispatch_limit": 0, "bill_initializing": True}
    always_on = {"workers_min": 2, "workers_max": 2, "cold_start_s": 0.0, "run_s": 0.3}
    for endpoint_id, program, config in (
        ("img", "image", {**cold, "workers_max": 2, "idle_timeout_s": 5.0}),
        ("echo", "echo", {"workers_max": 0}),
        ("spare", "echo", always_on),
    ):
        made = EndpointConfig(endpoint_id=endpoint_id, program=program, price_per_s=PRICES[endpoint_id], **config)
        fleet.simulator.add_endpoint(made)
    try:
        work(fleet)
        yield fleet
    finally:
        patch.undo()
        fleet.stop_workers()
        fresh_settings()


def work(fleet: Fleet) -> None:
    doomed, survivor = (fleet.worker("--concurrency", "4", **ENVIRONMENT) for _ in range(2))
    doomed.wait_ready()
    running = {"simulate": {"never_end": True}}
    stopped = [
        ryla_tasks.Job(ryla_tasks.run_endpoint.delay(name, running, user_id="bob").id) for name in ("lora", "echo")
    ]
    eventually(lambda: all(job.status is State.RUNNING for job in stopped), timeout=60, what="both run")
    # Submits and deliveries that die on their way would be other stories, which others tell.
    doomed.signal(signal.SIGKILL)
    survivor.wait_ready()
    for n in range(5):
        ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="x", user_id=("ann", NASTY)[n % 2])
    for _ in range(3):
        ryla_tasks.run_endpoint.delay("echo", {"x": 1}, user_id="bob")
    ryla_tasks.run_endpoint.delay("echo", {"simulate": {"fail": "no such thing", "seconds": 0.4}})
    ryla_tasks.make_character_sheet.delay(image=picture(), angles=["front", "back"], width=64, height=64, user_id="ann")
    fleet.endpoint("image").add_fault(CrashWorker(times=1))
    ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="x", user_id="ann")
    for job in stopped:
        send_again(envelope_of(job.id), Step.SUBMIT, 2)
        send_again(envelope_of(job.id), Step.DELIVER, 2)
        poll_again(job.record.target, 2)
        job.cancel()
        poll_again(job.record.target, 2)
    eventually(lambda: all(record.state.ended for record in records()), timeout=90, what="all have ended")
    # What the killed worker held stays with it until the visibility time-out: what waits in the queue is looked at.
    eventually(lambda: not queued(fleet.client, "ryla.jobs"), timeout=60, what="the doubled messages are taken")
    eventually(lambda: all(one.delivered for one in records() if not one.spec.sheet), timeout=60, what="all are told")


def records() -> list[Any]:
    return ryla_tasks.list_jobs(limit=100, cells=True)


def ledger(fleet: Fleet) -> tuple[list[Any], list[Any]]:
    store = UsageStore(fleet.client, prefix="ryla")
    hour = int(store.now() // 3600)
    return store.rows(hour - 1, hour + 1), store.rows_of_users(hour - 1, hour + 1)


def costs(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["costs", *arguments], catch_exceptions=False, env={"COLUMNS": "200"})


def test_the_ledger_is_the_sum_of_the_accounts(spent: Fleet) -> None:
    rows, users = ledger(spent)
    summed, jobs = total(rows), [one for one in records() if not one.spec.cells]
    paid = {name: sum(one.money.paid for one in jobs if one.spec.user_id == name) for name in ("ann", "bob", NASTY, "")}
    assert summed.cost == sum(paid.values()) > 0
    assert {name: used.cost for name, used in grouped(users, By.USER, get_settings().tzinfo).items()} == paid
    ends = [str(one.state) for one in jobs]
    assert {end: getattr(summed, end) for end in ends} == {end: ends.count(end) for end in ends}
    assert (summed.completed, summed.failed, summed.cancelled, summed.jobs) == (11, 1, 2, 14)
    accepted = sum(spent.simulator.endpoint(one).counters().accepted for one in (*PRICES, "spc", "lora"))
    assert summed.attempts == accepted > 14, "some were tried again, and some left their target"
    assert any(one.retries for one in jobs)
    assert any(one.left for one in jobs)
    assert summed.images == 8
    assert (summed.unpriced, summed.assumed) == (3, 0), "two cells, and the one that was stopped"
    assert 0 < summed.starts <= 3
    assert summed.starts <= summed.cold
    assert 0 < summed.start_cost < summed.cost
    assert summed.start_ms >= 2000 * summed.starts - 100


def test_sums_by_whatever_are_the_same(spent: Fleet) -> None:
    rows, users = ledger(spent)
    for by in By:
        asked = users if by is By.USER else rows
        parts = grouped(asked, by, get_settings().tzinfo)
        for measure in ("cost", "images", "attempts", "jobs", "run_ms", "unpriced"):
            assert sum(getattr(used, measure) for used in parts.values()) == getattr(total(rows), measure), (
                by,
                measure,
            )
    targets = grouped(rows, By.TARGET, get_settings().tzinfo)
    assert set(targets) == {f"runpod:{one}" for one in (*PRICES, "spc", "lora")}
    waited = targets["runpod:echo"]
    assert (waited.cost, waited.attempts > 0, waited.jobs) == (0, True, 0), "they have waited there, no more"
    assert targets["runpod:spare"].cost >= 5 * 30_000


def test_csv_is_read_back_and_runs_nothing(spent: Fleet) -> None:
    lines = list(csv.DictReader(io.StringIO(costs("--by", "user", "--csv").stdout)))
    assert [line["user"] for line in lines] == ["", f"'{NASTY}", "ann", "bob"]
    micro = sum(round(float(line["cost_usd"]) * 1e6) for line in lines)
    assert micro == total(ledger(spent)[0]).cost
    assert lines[2]["usd_per_image"] == "", "some of ann's images were made at a target without a price"
    assert float(lines[1]["usd_per_image"]) > 0


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Figures(Strict):
    endpoint: str | None = None
    jobs: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    expired: int
    attempts: int
    images: int
    run_s: float
    cost_usd: float | None
    assumed_usd: float
    usd_per_image: float | None
    unpriced_attempts: int
    unpriced_s: float
    waited_s: float
    cold_attempts: int
    cold_share: float | None
    cold_wait_s: float
    starts: int
    start_s: float
    start_usd: float


class Line(Strict):
    target: str
    estimate_usd: float
    invoice_usd: float
    compute_usd: float
    difference_usd: float
    why_usd: dict[str, float]
    idle_share: float | None
    cold_share: float | None


class Bills(Strict):
    begins: str
    ends: str
    idle_timeout_s: float
    estimate_usd: float
    invoice_usd: float
    difference_usd: float
    targets: list[Line]


class Target(Strict):
    target: str
    endpoints: list[str]
    gpu: str
    price_per_s: float | None
    cost_usd: float | None
    warm_worker: dict[str, Any]
    break_even: dict[str, Any] | None


class Document(Strict):
    since: str
    until: str
    timezone: str
    by: str
    groups: list[Figures]
    total: Figures
    targets: list[Target]
    reconciliation: Bills | None
    notes: list[str]


def test_json_has_its_schema_and_says_what_is_not_known(spent: Fleet) -> None:
    document = Document.model_validate_json(costs("--by", "endpoint", "--json").stdout)
    assert document.timezone == "Asia/Kolkata"
    special = next(one for one in document.groups if one.endpoint == "special")
    assert (special.cost_usd, special.unpriced_attempts) == (None, 2)
    assert sum("half an hour" in note or "without a price" in note for note in document.notes) == 2
    weighed = {one.target: one for one in document.targets}
    assert weighed["runpod:img"].break_even is not None
    assert weighed["runpod:img"].warm_worker["cold_starts"] == document.total.starts
    assert weighed["runpod:spare"].break_even is None


def test_the_bill_of_the_simulator_is_explained(spent: Fleet) -> None:
    document = Document.model_validate_json(costs("--by", "endpoint", "--reconcile", "--json").stdout)
    bills = document.reconciliation
    assert bills is not None
    lines = {line.target: line for line in bills.targets}
    for line in lines.values():
        assert sum(line.why_usd.values()) == pytest.approx(line.difference_usd, abs=1e-9)
        assert line.invoice_usd - line.estimate_usd == pytest.approx(line.difference_usd, abs=1e-9)
    image, counters = lines["runpod:img"], spent.endpoint("image").counters()
    assert image.invoice_usd == pytest.approx(counters.cost, rel=0.05), "it may have ended since"
    assert image.why_usd["idle"] > 0
    assert image.why_usd["rounding"] < 0
    assert 0 < (image.cold_share or 0) < 1
    spare = lines["runpod:spare"].why_usd
    assert spare["idle"] + spare["unknown"] > 0, "two workers there are always on"
    assert lines["runpod:echo"].invoice_usd == 0


def test_the_page_needs_nothing_and_runs_nothing(spent: Fleet, tmp_path: Path) -> None:
    page = tmp_path / "costs.html"
    told = costs("--by", "user", "--reconcile", "--html", str(page))
    assert f"The page is {page}." in told.stdout
    asked: list[str] = []
    with launched() as browser:
        opened = browser.new_page()
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(page.as_uri())
        assert opened.title().startswith("Costs, ")
        assert opened.get_by_role("cell", name=NASTY, exact=True).count() == 1
        assert opened.locator("script").count() == 0
        headings = opened.locator("h2").all_inner_texts()
        charts = [chart.get_attribute("aria-label") for chart in opened.locator("svg[role=img]").all()]
        assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert asked == [page.as_uri()]
    assert headings == [
        "By user", "Cost by day", "Usage by hour of the day", "Cost by endpoint", "Cold share",
        "Break-even against a pod", "A warm worker (workersMin = 1)", "RunPod's bill",
    ]  # fmt: skip
    assert len(charts) >= 6
    assert all(charts)


def test_a_period_is_read_in_the_time_zone_and_checked(spent: Fleet) -> None:
    assert "Nothing was used." in costs("--since", "2020-01-01", "--until", "2020-01-03").stdout
    for wrong, word in (
        (("--since", "soon"), "is no day and no time"),
        (("--since", "2020-02-01", "--until", "2020-01-01"), "must be before --until"),
        (("--days", "3", "--since", "2020-01-01"), "exclude each other"),
        (("--since", "2020-01-01"), "more than 400 days"),
        (("--json", "--csv"), "exclude each other"),
        (("--html", "/nowhere/page.html"), "No such file"),
    ):
        found = costs(*wrong)
        assert (found.exit_code, word in found.stderr) == (2, True), found.output


def test_what_has_no_measure_yet_is_nothing() -> None:
    assert (Usage().usd, Usage().usd_per_image, Usage().cold_share, Usage(attempts=1, unpriced=1).usd) == (
        0.0, None, None, None,
    )  # fmt: skip
