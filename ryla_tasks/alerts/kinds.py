"""Every kind of alert: how bad it is, what it says, and what to do. docs/alerts.md is made from this table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["KINDS", "UNKNOWN", "Kind", "Severity"]


class Severity(StrEnum):
    """How bad it is. INFO: good to know. WARNING: look at it today. CRITICAL: jobs do not run, or are lost."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    def at_least(self, other: Severity) -> bool:
        order = list(Severity)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of alert. `sentence` is filled in with the alert's fields; `when` says when it is told, for the page."""

    severity: Severity
    sentence: str
    advice: str
    when: str


KINDS: dict[str, Kind] = {
    "stuck": Kind(
        Severity.CRITICAL,
        "Jobs wait at {target} and no worker can come: {cause}.",
        "{message}",
        "jobs wait, and for `RYLA_STUCK_AFTER_S` (or `RYLA_STUCK_UNHEALTHY_AFTER_S`) no worker could come",
    ),
    "no_workers": Kind(
        Severity.CRITICAL,
        "The maximum of workers of {target} is 0: no job can run there.",
        "Set the endpoint's max workers above 0 in RunPod's console. RunPod lowers it to 0 after a week without "
        "requests, and when workers crash again and again.",
        "as `stuck`, where RunPod says that the endpoint may have no worker at all",
    ),
    "health_failing": Kind(
        Severity.WARNING,
        "{target} does not answer when it is asked for its health: {error}.",
        "See whether RunPod is down, whether the endpoint still exists and whether its API key is valid: "
        "`ryla doctor`.",
        "/health went wrong at two looks in a row, while jobs wait",
    ),
    "failure_rate": Kind(
        Severity.WARNING,
        "{percent} % of the latest {jobs} jobs at {target} failed.",
        "Look at why: `ryla list --status failed`, then `ryla show ID`. One bad input, a model that is missing on the "
        "volume, and a broken worker image look alike from here.",
        "more than `RYLA_ALERT_FAILURE_RATE` of an hour's attempts at a target failed, and there were at least 20",
    ),
    "retries_exhausted": Kind(
        Severity.WARNING,
        "Job {job_id} at {endpoint} failed after {retries} retries: {code}.",
        "`ryla show {job_id}` says why each attempt failed. Others of the same hour are not told.",
        "a job has used up its retries on what might have passed; once an hour for each endpoint",
    ),
    "undelivered": Kind(
        Severity.CRITICAL,
        "Job {job_id} at {endpoint} has ended, and Celery could not be told for five hours.",
        "Its result is in its record: `ryla show {job_id}`. See why its deliver message fails in the log of a worker; "
        "`ryla clean` looks for others. Those of the same hour are not told.",
        "the deliver message of a job was sent 64 times in vain; once an hour for each endpoint",
    ),
    "unheard": Kind(
        Severity.WARNING,
        "A receiver of job_ended did not take the end of job {job_id}: {details}.",
        "See the traceback in the log of a worker (end.unheard). Celery was told; what the receiver was to do is not "
        "done for this job.",
        "a receiver of the signal job_ended has failed eight times for a job; once an hour for each error",
    ),
    "breaker_open": Kind(
        Severity.WARNING,
        "{target} fails too often and gets no more submits for a while.",
        "Jobs go to the endpoint's next target, or wait. `ryla endpoints` shows it, and when it is tried again.",
        "too many submits or attempts at a target failed (`RYLA_BREAKER_FAILURES`)",
    ),
    "breaker_closed": Kind(
        Severity.INFO,
        "{target} gets submits again.",
        "Nothing.",
        "a job that tried a held target went well",
    ),
    "budget": Kind(
        Severity.WARNING,
        "{endpoint} has spent ${spent_usd} of its ${budget_usd} for {day}.",
        "When all is spent its jobs fail until the next day: raise daily_budget_usd, or see who spends it: "
        "`ryla list --endpoint {endpoint}`.",
        "a share of an endpoint's daily budget is spent (`RYLA_BUDGET_ALERTS`); once a day each",
    ),
    "test": Kind(
        Severity.INFO,
        "This is a test of the alerts of ryla.",
        "Nothing: it has arrived.",
        "`ryla alerts test`",
    ),
}

#: One of a newer or another version.
UNKNOWN = Kind(Severity.WARNING, "Something happened that this version does not know.", "See `ryla alerts`.", "")
