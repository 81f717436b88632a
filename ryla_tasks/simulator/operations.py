"""The operations of the RunPod serverless API, and what is published about their limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "LIMITS",
    "LIMIT_WINDOW_S",
    "METHODS",
    "PAYLOAD_BYTES",
    "WORKER_METHODS",
    "Limit",
    "Operation",
    "WorkerOperation",
]

_MIB = 1024 * 1024


class Operation(StrEnum):
    """One operation, named as in the URL: `/v2/{endpoint}/{operation}`."""

    RUN = "run"
    RUNSYNC = "runsync"
    STATUS = "status"
    STREAM = "stream"
    CANCEL = "cancel"
    RETRY = "retry"
    HEALTH = "health"
    PURGE_QUEUE = "purge-queue"


class WorkerOperation(StrEnum):
    """What a GPU worker calls, named as in the URL: `/v2/{endpoint}/{operation}/{worker}[/{job}]`.

    RunPod does not publish these; they are those of the `runpod` SDK 1.12.
    """

    JOB_TAKE = "job-take"
    JOB_TAKE_BATCH = "job-take-batch"
    JOB_DONE = "job-done"
    JOB_STREAM = "job-stream"
    JOB_STOP = "job-stop"
    PING = "ping"


@dataclass(frozen=True, slots=True)
class Limit:
    """Calls in a window of ten seconds, and calls at once; None where RunPod publishes no number."""

    per_window: int
    at_once: int | None


LIMIT_WINDOW_S = 10.0

# RunPod docs, serverless/endpoints/operation-reference, table of rate limits: per user and endpoint. None are
# published for /retry and /health, so these two are not limited here.
LIMITS = {
    Operation.RUN: Limit(1000, 200),
    Operation.RUNSYNC: Limit(2000, 400),
    Operation.STATUS: Limit(2000, 400),
    Operation.STREAM: Limit(2000, 400),
    Operation.CANCEL: Limit(100, 20),
    Operation.PURGE_QUEUE: Limit(2, None),
}

# The same page: 10 MB for /run and 20 MB for /runsync.
PAYLOAD_BYTES = {Operation.RUN: 10 * _MIB, Operation.RUNSYNC: 20 * _MIB}

# The same page; POST for /status and /stream comes from older docs and RunPod's own JavaScript client.
METHODS = {
    Operation.RUN: frozenset({"POST"}),
    Operation.RUNSYNC: frozenset({"POST"}),
    Operation.STATUS: frozenset({"GET", "POST"}),
    Operation.STREAM: frozenset({"GET", "POST"}),
    Operation.CANCEL: frozenset({"POST"}),
    Operation.RETRY: frozenset({"POST"}),
    Operation.HEALTH: frozenset({"GET"}),
    Operation.PURGE_QUEUE: frozenset({"POST"}),
}

WORKER_METHODS = {
    WorkerOperation.JOB_TAKE: "GET",
    WorkerOperation.JOB_TAKE_BATCH: "GET",
    WorkerOperation.JOB_DONE: "POST",
    WorkerOperation.JOB_STREAM: "POST",
    WorkerOperation.JOB_STOP: "GET",
    WorkerOperation.PING: "GET",
}
