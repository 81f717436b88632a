"""What the control API shows, as types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from .config import EndpointConfig
from .fleet import WorkerState
from .hosting import HostedEndpoint
from .jobs import JobStatus, SimJob

__all__ = ["EndpointView", "JobView", "WorkerView", "view_endpoint", "view_job", "view_workers"]


class JobView(BaseModel):
    """One job, seen from inside. Times are simulated seconds since the simulator's start; `runs` counts the GPU
    workers that began on it."""

    id: str
    endpoint_id: str
    status: JobStatus
    correlation_id: str | None
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    delay_ms: int | None
    worker_id: str | None
    retries: int
    runs: int
    error: str | None
    webhook: str | None
    input: dict[str, Any] | None = None
    """Only where one job is asked for."""


class EndpointView(BaseModel):
    """One endpoint: its settings, and the same numbers as /health."""

    config: EndpointConfig
    jobs: dict[str, int]
    workers: dict[str, int]


class WorkerView(BaseModel):
    """One joined worker. `stopping` are jobs that ended here while it may still work on them; `restarts` counts how
    often it asked to be started anew (`refresh_worker`)."""

    id: str
    state: WorkerState
    jobs: list[str]
    stopping: list[str]
    restarts: int
    seen_at: float


def view_job(endpoint_id: str, job: SimJob, *, whole: bool = False) -> JobView:
    return JobView(
        id=job.id,
        endpoint_id=endpoint_id,
        status=job.status,
        correlation_id=job.correlation_id,
        submitted_at=job.submitted_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        delay_ms=job.delay_ms,
        worker_id=job.worker_id,
        retries=job.retries,
        runs=job.runs,
        error=job.error,
        webhook=job.webhook,
        input=job.input if whole else None,
    )


def view_endpoint(endpoint: HostedEndpoint) -> EndpointView:
    health = endpoint.core.health()
    return EndpointView(config=endpoint.config, jobs=health["jobs"], workers=health["workers"])


def view_workers(endpoint: HostedEndpoint) -> list[WorkerView]:
    """The joined workers; none where workers are simulated."""
    joined = endpoint.core.joined
    return [
        WorkerView(
            id=worker.id,
            state=worker.slot.state,
            jobs=[*worker.jobs],
            stopping=[*worker.stopping],
            restarts=worker.asked_for_stop,
            seen_at=worker.seen_at,
        )
        for worker in (joined.workers if joined is not None else ())
    ]
