"""A job as the simulated endpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .job_faults import DropOutput, TruncateOutput
from .programs.base import Execution

__all__ = ["JobStatus", "Report", "SimJob", "correlation_id"]


class JobStatus(StrEnum):
    """RunPod's words (RunPod docs, serverless/endpoints/job-states)."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


_LIVE = frozenset({JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS})


def correlation_id(job_input: Mapping[str, Any]) -> str | None:
    """The submitter's own mark, `input.ryla.correlation_id`: RunPod has no client reference of its own."""
    own = job_input.get("ryla")
    mark = own.get("correlation_id") if isinstance(own, Mapping) else None
    return str(mark) if mark is not None else None


@dataclass(slots=True)
class Report:
    """What a joined worker has sent of the run that it is on."""

    progress: Any = None
    chunks: list[Any] = field(default_factory=list)
    output: bytes | None = None
    """The output's JSON, None while there is none."""


@dataclass(slots=True)
class SimJob:
    """One job. Times are simulated seconds.

    `generation` rises with every change of status and so voids what was scheduled for the last one.
    """

    id: str
    input: dict[str, Any]
    submitted_at: float
    ttl_s: float
    execution_timeout_s: float
    webhook: str | None = None
    low_priority: bool = False
    sync: bool = False
    s3_config: Any = field(default=None, repr=False)
    """Passed on to a joined worker and shown to nobody else: it holds secrets."""

    status: JobStatus = JobStatus.IN_QUEUE
    generation: int = 0
    queued_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    delay_ms: int | None = None
    worker_id: str | None = None
    retries: int = 0
    runs: int = 0
    overdue: bool = False
    execution: Execution | None = None
    """The run on a simulated worker."""
    report: Report | None = None
    """The run on a joined worker."""
    spoiled: DropOutput | TruncateOutput | None = None
    error: str | None = None
    chunks_read: int = 0
    correlation_id: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.queued_at = self.submitted_at
        self.correlation_id = correlation_id(self.input)

    @property
    def live(self) -> bool:
        return self.status in _LIVE

    @property
    def dies_at(self) -> float:
        """When its ttl, which counts from submission, is over."""
        return self.submitted_at + self.ttl_s

    def fraction(self, now: float) -> float:
        """How much of its run is over, 0 to 1; worked out from the clock, nothing counts along."""
        if self.started_at is None or self.execution is None:
            return 0.0
        elapsed = (self.ended_at if self.ended_at is not None else now) - self.started_at
        return min(max(elapsed / self.execution.seconds, 0.0), 1.0) if self.execution.seconds > 0 else 1.0

    def progress(self, now: float) -> Any:
        """What its worker last reported, or None from a program that reports nothing."""
        if self.report is not None:
            return self.report.progress
        return self.execution.progress(self.fraction(now)) if self.execution is not None else None

    @property
    def chunks(self) -> Sequence[Any]:
        """All that /stream can show of it; a simulated run's are known before they are ready."""
        if self.report is not None:
            return self.report.chunks
        return self.execution.chunks if self.execution is not None else ()

    def chunks_ready(self, now: float) -> int:
        """How many of its /stream chunks the worker has sent by now."""
        if self.report is not None:
            return len(self.report.chunks)
        return int(len(self.chunks) * self.fraction(now))

    def next_chunk_in(self, now: float) -> float:
        """Seconds until the next chunk can be there; for ever while the job does not run."""
        if self.execution is None or self.started_at is None or not self.execution.chunks:
            return float("inf")
        following = (self.chunks_ready(now) + 1) * self.execution.seconds / len(self.execution.chunks)
        return max(self.started_at + following - now, 0.001)

    def status_fields(self, now: float) -> dict[str, Any]:
        """The fields of a /status answer but for the output of an ended job.

        From captured answers: `workerId` and `delayTime` come with IN_PROGRESS, `error` and `retries` only where
        there are any, a job that never ran has neither time, and an IN_PROGRESS job's `output` is its progress
        (runpod-python #250).
        """
        fields: dict[str, Any] = {}
        if self.delay_ms is not None:
            fields["delayTime"] = self.delay_ms
        if self.error is not None:
            fields["error"] = self.error
        if self.ended_at is not None and self.started_at is not None:
            fields["executionTime"] = round((self.ended_at - self.started_at) * 1000)
        fields["id"] = self.id
        if self.status is JobStatus.IN_PROGRESS and (progress := self.progress(now)) is not None:
            fields["output"] = progress
        if self.retries:
            fields["retries"] = self.retries
        fields["status"] = self.status.value
        if self.worker_id is not None:
            fields["workerId"] = self.worker_id
        return fields

    def outdated_fields(self, fraction: float) -> dict[str, Any]:
        """The fields of a /status answer from when it ran, at a fraction of its run."""
        fields: dict[str, Any] = {"delayTime": self.delay_ms or 0, "id": self.id, "status": JobStatus.IN_PROGRESS.value}
        progress = self.execution.progress(fraction) if self.execution is not None else self.progress(0)
        if progress is not None:
            fields["output"] = progress
        if self.worker_id is not None:
            fields["workerId"] = self.worker_id
        return fields
