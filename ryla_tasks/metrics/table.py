"""All metrics: the exporter, docs/metrics.md, and the tests of dashboard and alerts go by this table alone."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from ryla_tasks.metrics.definition import Kind, Metric, Row, Section, View
from ryla_tasks.metrics.reading import (
    attempts,
    calls,
    counter,
    endings,
    errors,
    gauge,
    histogram,
    of_health,
    of_lines,
    of_targets,
    repeats,
    tally,
    watch_of,
)

__all__ = ["METRICS", "SECTIONS", "UP"]

_OF_A_JOB = ("kind", "endpoint")
_OF_AN_ATTEMPT = ("kind", "endpoint", "target")


UP = gauge(
    "ryla_up",
    "1 where Redis answered this scrape, else 0, and then all that is read from Redis is missing.",
    "whether it answers",
    lambda _view: [((), 1)],
)


def _levels(view: View) -> Iterator[Row]:
    for level in ("submit", "job"):
        yield (level,), view.fleet.counters.get(f"{level}_retries", 0)


def _failing(view: View) -> Iterator[Row]:
    for target, state in view.fleet.targets.items():
        watch = watch_of(view, state)
        yield (target,), bool(watch and watch.error)


def _stuck(view: View) -> Iterator[Row]:
    for target, state in view.fleet.targets.items():
        watch = watch_of(view, state)
        yield (target,), bool(watch and watch.stuck)


SECTIONS = (
    Section(
        "The exporter and the fleet",
        (
            UP,
            gauge(
                "ryla_broker_up",
                "1 where Celery's broker answered this scrape; by default it is the same Redis.",
                "whether it answers",
                lambda view: [((), view.messages is not None)],
            ),
            gauge(
                "ryla_build_info",
                "Always 1; says which ryla-tasks exports.",
                "the package",
                lambda _view: [((version("ryla-tasks"),), 1)],
                ("version",),
            ),
            gauge(
                "ryla_workers",
                "Worker processes that have swept in the last 20 s; those with --without-sweeper are not counted.",
                "workers",
                lambda view: [((), view.fleet.workers)],
            ),
        ),
    ),
    Section(
        "Jobs",
        (
            tally(
                "ryla_jobs_created_total", "created", _OF_A_JOB, "Jobs accepted. A sheet and each of its cells are one."
            ),
            Metric(
                "ryla_jobs_ended_total",
                Kind.COUNTER,
                (*_OF_A_JOB, "outcome"),
                "Jobs that have ended, by outcome: completed, failed, cancelled, timed_out, expired.",
                "metric:ended",
                endings,
            ),
            Metric(
                "ryla_job_errors_total",
                Kind.COUNTER,
                (*_OF_A_JOB, "code"),
                "Jobs that have ended without a result, by the code of their error (errors.md).",
                "metric:ended",
                errors,
            ),
            gauge(
                "ryla_jobs_in_flight",
                "Jobs that have not ended, by state.",
                "idx:state:STATE",
                lambda view: (((str(state),), n) for state, n in view.fleet.states.items()),
                ("state",),
            ),
            gauge(
                "ryla_jobs_kept", "Jobs with a record, ended or not.", "idx:all", lambda view: [((), view.fleet.kept)]
            ),
            histogram("ryla_job_seconds", "job", _OF_A_JOB, "From acceptance to the end, of jobs that completed."),
            counter(
                "ryla_jobs_undelivered_total",
                "undelivered",
                "Ended jobs whose Celery task could not be told for hours.",
            ),
        ),
    ),
    Section(
        "Queues",
        (
            gauge(
                "ryla_line_jobs",
                "Jobs to be submitted at an endpoint, later retries and submits under way included.",
                "due:submit:ENDPOINT",
                of_lines(lambda place: place.jobs),
                ("endpoint",),
            ),
            gauge(
                "ryla_line_overdue_seconds",
                "For how long the first of them could have gone: for want of a worker, of a turn within the limits, or "
                "behind an open breaker.",
                "due:submit:ENDPOINT",
                of_lines(lambda place: place.overdue_s),
                ("endpoint",),
            ),
            histogram(
                "ryla_line_wait_seconds",
                "line_wait",
                ("endpoint",),
                "From the moment at which an attempt could have gone to its claim.",
            ),
            gauge(
                "ryla_target_jobs",
                "Jobs at a target, each polled until it ends there.",
                "due:poll:TARGET",
                of_targets(lambda state: state.at.jobs),
                ("target",),
            ),
            gauge(
                "ryla_polls_overdue_seconds",
                "For how long the most overdue poll of a target has been due.",
                "due:poll:TARGET",
                of_targets(lambda state: state.at.overdue_s),
                ("target",),
            ),
            gauge(
                "ryla_deliveries",
                "Jobs whose GPU work is over and whose result is not delivered yet.",
                "due:deliver",
                lambda view: [((), view.fleet.deliveries.jobs)],
            ),
            gauge(
                "ryla_deliveries_overdue_seconds",
                "For how long the first of them has been due.",
                "due:deliver",
                lambda view: [((), view.fleet.deliveries.overdue_s)],
            ),
            gauge(
                "ryla_queue_messages",
                "Messages in one of our Celery queues, all priorities. A job that is polled has none of its own.",
                "the broker's lists",
                lambda view: (((queue,), n) for queue, n in (view.messages or {}).items()),
                ("queue",),
            ),
        ),
    ),
    Section(
        "Attempts",
        (
            counter("ryla_attempts_total", "attempts", "Attempts begun: claimed to be submitted."),
            counter("ryla_submits_total", "submits", "Attempts that the cloud has taken."),
            Metric(
                "ryla_attempts_ended_total",
                Kind.COUNTER,
                (*_OF_AN_ATTEMPT, "outcome", "cold"),
                "Attempts at the cloud that are over; cold is yes where one met a cold start. One withdrawn to "
                "go elsewhere counts as cancelled.",
                "metric:attempts",
                attempts,
            ),
            histogram(
                "ryla_cold_start_seconds",
                "cold_start",
                _OF_AN_ATTEMPT,
                "From the submit to a GPU worker's taking it, of attempts that met a cold start; those that waited for "
                "the same one count each.",
            ),
            histogram(
                "ryla_queue_wait_seconds",
                "queue_wait",
                _OF_AN_ATTEMPT,
                "The same of the other attempts: the wait in the cloud's queue.",
            ),
            histogram("ryla_run_seconds", "run", _OF_AN_ATTEMPT, "The execution time of attempts that completed."),
            Metric(
                "ryla_retries_total",
                Kind.COUNTER,
                ("level",),
                "New attempts, by level: submit (it was surely not taken), job (it failed on the GPU side).",
                "counters, submit_retries and job_retries",
                _levels,
            ),
            tally(
                "ryla_retries_exhausted_total",
                "exhausted",
                _OF_A_JOB,
                "Jobs that failed in the end although they had been tried again.",
            ),
            counter(
                "ryla_retries_held_total", "retries_held", "Times that a retry had to wait because its target is down."
            ),
            counter("ryla_fallbacks_total", "fallbacks", "Fallbacks taken, failovers included."),
            counter("ryla_failovers_total", "failovers", "Jobs that went to another target of their endpoint."),
            counter("ryla_submits_unknown_total", "unknowns", "Submits whose answer was lost."),
            counter(
                "ryla_resubmits_total", "resubmits", "Submits made again after a lost answer; each may be a double."
            ),
            counter(
                "ryla_twins_kept_total",
                "twins_kept",
                "Earlier attempts with a lost answer that had completed after all.",
            ),
            counter("ryla_orphans_total", "orphans", "Remote jobs that no job of ours claims; they are cancelled."),
        ),
    ),
    Section(
        "Polls, limits and calls",
        (
            histogram(
                "ryla_poll_lateness_seconds",
                "poll_lateness",
                ("target",),
                "How late jobs were polled, against their plan.",
            ),
            histogram(
                "ryla_limiter_wait_seconds",
                "limiter_wait",
                ("target", "operation"),
                "How long a ride (status), a submit (run) or a cancel was put off by a limit of the whole fleet, or a "
                "429, each time that it was.",
            ),
            Metric(
                "ryla_provider_calls_total",
                Kind.COUNTER,
                ("target", "operation", "code"),
                "Calls to the cloud, by HTTP status; none is no answer. Workers hand theirs on every few seconds.",
                "provider_calls",
                calls,
            ),
            Metric(
                "ryla_provider_call_repeats_total",
                Kind.COUNTER,
                ("target", "operation"),
                "Those of them that were made once more.",
                "provider_calls",
                repeats,
            ),
        ),
    ),
    Section(
        "Recovery",
        (
            counter(
                "ryla_recovered_messages_total", "recovered_messages", "Messages of jobs that a sweeper sent again."
            ),
            counter(
                "ryla_recovered_wakes_total", "recovered_wakes", "Messages of targets and lines that one sent again."
            ),
            counter("ryla_recovered_polls_total", "recovered_polls", "Polls made more than 1 s late."),
            counter("ryla_late_polls_total", "late_polls", "Polls made more than 15 s late."),
            counter("ryla_recoveries_total", "recoveries", "Bursts of recovery that are over."),
            counter("ryla_fences_lost_total", "fences_lost", "Settles that came too late and changed nothing."),
        ),
    ),
    Section(
        "Targets",
        (
            gauge(
                "ryla_target_health_failing",
                "1 where a target's /health failed when it was last asked; 0 where it answered, or nobody has waited "
                "there for 90 s.",
                "health:TARGET",
                _failing,
                ("target",),
            ),
            gauge(
                "ryla_target_stuck",
                "1 where jobs wait at a target and no worker can come; 0 as above.",
                "health:TARGET",
                _stuck,
                ("target",),
            ),
            gauge(
                "ryla_target_health_asked_timestamp_seconds",
                "When /health was last asked: only while a job waits there.",
                "health:TARGET",
                of_health(lambda watch: [((), watch.at)]),
                ("target",),
            ),
            gauge(
                "ryla_target_workers",
                "The GPU workers of a target by /health, while that is known. An idle one counts as ready, too.",
                "health:TARGET",
                of_health(lambda watch: (((s,), n) for s, n in watch.health.workers.items()) if watch.health else ()),
                ("target", "state"),
            ),
            gauge(
                "ryla_target_remote_jobs",
                "The jobs of a target by /health, whoever sent them, while that is known.",
                "health:TARGET",
                of_health(lambda watch: (((s,), n) for s, n in watch.health.jobs.items()) if watch.health else ()),
                ("target", "status"),
            ),
            gauge(
                "ryla_breaker_open",
                "1 where a target's breaker is open: no submits but a probe now and then.",
                "breaker:TARGET",
                of_targets(lambda state: state.breaker_open),
                ("target",),
            ),
            counter("ryla_breakers_opened_total", "breaker_opened", "Times that a breaker opened."),
            counter("ryla_breakers_closed_total", "breaker_closed", "Times that one closed."),
            counter("ryla_breaker_probes_total", "probes", "Jobs that an open breaker let through to try its target."),
            counter("ryla_submits_held_total", "submits_held", "Times that an open breaker turned a submit away."),
        ),
    ),
    Section(
        "Money and alerts",
        (
            tally(
                "ryla_cost_usd_total",
                "cost",
                _OF_A_JOB,
                "What the jobs that have ended have cost; an estimate.",
                unit=1e6,
            ),
            gauge(
                "ryla_spent_today_usd",
                "What an endpoint has spent since midnight in RYLA_TIMEZONE, reservations of jobs in flight included.",
                "spend:DAY",
                lambda view: (((endpoint,), usd) for endpoint, usd in view.fleet.spent.items()),
                ("endpoint",),
            ),
            gauge(
                "ryla_budget_usd",
                "The daily budget of an endpoint that has one.",
                "the settings",
                lambda view: (((endpoint,), usd) for endpoint, usd in view.budgets.items()),
                ("endpoint",),
            ),
            counter("ryla_budget_refused_total", "budget_refused", "Jobs that a budget forbade to submit."),
            counter(
                "ryla_budget_stopped_total", "budget_stopped", "Jobs that were stopped because they cost too much."
            ),
            counter("ryla_alerts_total", "alerts", "Alerts told to the operator (the stream alerts)."),
        ),
    ),
)

METRICS = tuple(metric for section in SECTIONS for metric in section.metrics)
