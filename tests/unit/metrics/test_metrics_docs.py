"""The table of metrics, and what is made from it or goes by it: the page, the dashboard, the alert rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ryla_tasks.metrics.definition import Kind
from ryla_tasks.metrics.page import page
from ryla_tasks.metrics.table import METRICS
from ryla_tasks.store.buckets import BUCKETS

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy/grafana/dashboards/ryla.json"
RULES = ROOT / "deploy/prometheus/ryla.rules.yml"

#: What Prometheus itself has: the labels of each scrape, and its own metric.
SCRAPED = {"job", "instance"}
BY_NAME = {metric.name: metric for metric in METRICS}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed"
)


def labels_of(sample: str) -> set[str]:
    """The labels that a sample of this name has; fails where no metric has such samples."""
    if sample == "up":
        return SCRAPED
    part = re.search(r"_(bucket|sum|count)$", sample)
    metric = BY_NAME.get(sample) or (BY_NAME.get(sample[: part.start()]) if part else None)
    assert metric is not None, f"no metric {sample}"
    if metric.kind is Kind.HISTOGRAM:
        assert part, f"{sample} is a histogram: _bucket, _sum or _count"
    else:
        assert metric.name == sample
    return {*metric.labels, *SCRAPED, *({"le"} if part and part[1] == "bucket" else ())}


def selectors(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric in an expression, with the labels that its selector names."""
    for found in re.finditer(r"\b(ryla_\w+|up)\b(?:\{([^}]*)\})?", expr):
        yield found[1], set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found[2] or ""))


def grouped(expr: str) -> set[str]:
    """The labels by which an expression groups or joins."""
    lists = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expr)
    return {label.strip() for found in lists for label in found.split(",") if label.strip()}


def check(expr: str) -> set[str]:
    """Check all names in an expression, and return the labels of its metrics."""
    known: set[str] = set()
    for sample, named in selectors(expr):
        assert named <= labels_of(sample), (expr, sample, named)
        known |= labels_of(sample)
    assert known, expr
    assert grouped(expr) <= known, expr
    return known


def queries() -> Iterator[tuple[str, str]]:
    """The dashboard's queries, with how their lines are called."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from ((target["expr"], target["legendFormat"]) for target in panel.get("targets", []))


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_the_page_is_that_of_the_table() -> None:
    """Make it anew with `python -m ryla_tasks.metrics > docs/metrics.md`."""
    assert (ROOT / "docs/metrics.md").read_text() == page()


def test_names_follow_the_conventions() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"ryla_[a-z0-9_]+", metric.name)
        assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total"), metric.name
        assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets), metric.name
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")
        assert metric.help.endswith(".")
        assert not {"user", "user_id", "job_id", "id", "prompt", "le", "job", "instance"} & set(metric.labels)
    assert {metric.buckets for metric in METRICS} - {""} == set(BUCKETS), "each histogram that is counted is told"


def test_buckets_go_up_and_their_texts_are_their_values() -> None:
    for bounds in BUCKETS.values():
        assert list(bounds) == sorted(set(bounds))
        assert [float(f"{bound:g}") for bound in bounds] == list(bounds)


@pytest.mark.parametrize(("expr", "legend"), list(queries()))
def test_the_dashboard_asks_for_what_there_is(expr: str, legend: str) -> None:
    known = check(expr)
    wanted = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert wanted <= known
    # A label that was summed away shows as nothing.
    assert wanted <= grouped(expr), (expr, legend)


def test_the_dashboards_variables_and_panels() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    for variable in dashboard["templating"]["list"][1:]:
        sample, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        assert label in labels_of(sample)
    used = set(re.findall(r"\$(?!__)\{?(\w+)", DASHBOARD.read_text()))
    assert used == set(names)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert dashboard.get("id") is None, "an id of its own would be another dashboard's elsewhere"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alerts_ask_for_what_there_is(rule: dict[str, Any]) -> None:
    known = check(rule["expr"])
    made = set(re.findall(r'label_replace\([^"]*"(\w+)"', rule["expr"]))
    texts = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= known | made
    assert set(re.findall(r"\b(ryla_\w+)\b", texts)) - {"ryla_tasks"} <= set(BY_NAME) | {"ryla_limiter_wait_seconds"}
    assert rule["labels"]["severity"] in {"critical", "warning"}


def test_each_alert_has_a_test_in_which_it_fires() -> None:
    fires = {
        one["alertname"]
        for path in (ROOT / "deploy/prometheus/tests").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for one in test["alert_rule_test"]
        if one["exp_alerts"]
    }
    assert fires == {rule["alert"] for rule in alerts()}


def test_the_queries_of_the_page() -> None:
    told = re.findall(r"`([^`]*\bryla_[^`]*)`", page().partition("## The exporter")[0])
    exprs = [text for text in told if "(" in text]
    assert len(exprs) >= 8
    for expr in exprs:
        check(expr)


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_configuration_and_rules() -> None:
    promtool("check", "config", "deploy/prometheus/prometheus.yml")


@needs_promtool
def test_the_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", *map(str, sorted((ROOT / "deploy/prometheus/tests").glob("*.yml"))))


@needs_promtool
def test_prometheus_understands_the_dashboards_queries(tmp_path: Path) -> None:
    asked = [expr for expr, _legend in queries()]
    plain = [
        re.sub(r"\$__rate_interval", "5m", expr).replace("$endpoint", ".*").replace("$target", ".*") for expr in asked
    ]
    rules = [{"record": f"dashboard:{n}", "expr": expr} for n, expr in enumerate(plain)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))
