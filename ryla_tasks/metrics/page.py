"""docs/metrics.md, made from the table of metrics: a test fails where the two differ."""

from __future__ import annotations

from ryla_tasks.metrics.definition import Kind, Metric
from ryla_tasks.metrics.table import SECTIONS
from ryla_tasks.store.buckets import BUCKETS

__all__ = ["page"]

_HEAD = """\
# Metrics

Made from the table in `ryla_tasks/metrics/table.py` by `python -m ryla_tasks.metrics > docs/metrics.md`; do not edit.

    pip install 'ryla-tasks[metrics]'
    ryla metrics                                        # http://127.0.0.1:19808/metrics
    ryla metrics --once | grep in_flight                # print them once

One exporter is enough for the whole fleet: workers count in Redis, in the very step that does what is counted, and
the exporter reads that. So a restart loses no count, a message that comes twice counts once, and a second exporter
tells the same. It needs the settings of Redis and of the endpoints, and no API key. A scrape is one round trip to Redis
and one to Celery's broker, however many jobs there are.

While Redis is away a scrape is answered by `ryla_up 0` alone. `/healthz` says that the exporter itself answers. Nothing
guards either: keep the address where only Prometheus reaches it.

Labels are names of kinds, endpoints, targets, states, operations and codes: never users, jobs or prompts. Their number
is bounded by the settings. Counters start anew only with an empty Redis, which Prometheus takes for a restart.

## Prometheus, Grafana, systemd

- [`deploy/systemd/ryla-metrics.service`](../deploy/systemd/ryla-metrics.service) keeps the exporter running.
- [`deploy/prometheus`](../deploy/prometheus) has a scrape configuration and alert rules, each with a test:
  `promtool test rules deploy/prometheus/tests/*.yml`. They expect the name `ryla` for the scrape job.
- [`deploy/grafana/dashboards/ryla.json`](../deploy/grafana/dashboards/ryla.json) can be imported as it is, and asks for
  the Prometheus; or it is provisioned, with the files in `deploy/grafana/provisioning`.

## What to look at

| question | query |
|---|---|
| do jobs fail, and why | `sum by (endpoint, code) (increase(ryla_job_errors_total[1h]))` |
| how long does a user wait | `histogram_quantile(0.95, sum by (le, endpoint) (rate(ryla_job_seconds_bucket[15m])))` |
| is it cold starts | `sum by (target) (increase(ryla_attempts_ended_total{cold="yes"}[1h])) / sum by (target) \
(increase(ryla_attempts_ended_total[1h]))` |
| or our own line | `histogram_quantile(0.95, sum by (le, endpoint) (rate(ryla_line_wait_seconds_bucket[15m])))` |
| are there workers enough | `max(ryla_polls_overdue_seconds)`, `max(ryla_deliveries_overdue_seconds)` near 0 |
| are the limits too low | `sum by (target, operation) (rate(ryla_limiter_wait_seconds_count[5m]))` |
| what does a job cost | `sum by (endpoint) (increase(ryla_cost_usd_total[1d])) / sum by (endpoint) \
(increase(ryla_jobs_ended_total{outcome="completed"}[1d]))` |
| may something have been paid for twice | `increase(ryla_resubmits_total[1d])`, `increase(ryla_orphans_total[1d])` |
"""

_TAIL = """\

## What counting costs

No round trip: it happens in scripts that run anyway. A job that is polled twice on its way makes Redis run 236
commands in them in place of 219. A ride, which polls up to 64 jobs, runs two or three more, whether it has one job or
64, and none for a poll. A sweep runs two more.

A new label combination begins with its first value, so that `increase` misses the very first error of a code at an
endpoint; ended, failed after retries and cost begin with 0 as soon as a job of that kind and endpoint was accepted.
"""


def page() -> str:
    """The page as Markdown."""
    parts = []
    for section in SECTIONS:
        lines = [
            f"\n## {section.title}\n",
            "| metric | type | labels | meaning | from, in Redis |",
            "|---|---|---|---|---|",
        ]
        parts.append("\n".join([*lines, *(_line(metric) for metric in section.metrics)]) + "\n")
    return _HEAD + "".join(parts) + _buckets() + _TAIL


def _line(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    cells = (f"`{metric.name}`", str(metric.kind), labels, metric.help, f"`{metric.source}`")
    return "| " + " | ".join(cells) + " |"


def _buckets() -> str:
    """The upper bounds of all histograms."""
    lines = ["\n## Buckets\n", "| histogram | upper bounds in seconds, then +Inf |", "|---|---|"]
    for section in SECTIONS:
        for metric in section.metrics:
            if metric.kind is Kind.HISTOGRAM:
                bounds = ", ".join(f"{bound:g}" for bound in BUCKETS[metric.buckets])
                lines.append(f"| `{metric.name}` | {bounds} |")
    return "\n".join(lines) + "\n"
