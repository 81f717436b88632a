"""A job's result, as JSON: what `AsyncResult.get()` and `Job.result()` give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ryla_tasks.artifacts import Artifact, DecodedOutput
from ryla_tasks.jobs.cost import estimate
from ryla_tasks.jobs.falling_back import lines_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.remote import RemoteJob

__all__ = ["build_result"]


def build_result(
    record: JobRecord, remote: RemoteJob, artifacts: Sequence[Artifact], decoded: DecodedOutput, now: float
) -> dict[str, Any]:
    """The result of a completed job. It names artifacts by key: their URLs are made when it is read."""
    observed = record.observed
    execution_ms = remote.execution_ms if remote.execution_ms is not None else observed.execution_ms
    delay_ms = remote.delay_ms if remote.delay_ms is not None else observed.delay_ms
    images = [artifact.key for artifact in artifacts if artifact.content_type.startswith("image/")]
    listed = [{"key": key, "seed": record.spec.seed, "index": index} for index, key in enumerate(images)]
    return {
        "job_id": record.job_id,
        "label": record.spec.label,
        "endpoint": record.spec.endpoint,
        "target": record.target,
        "remote_id": record.remote_id,
        "attempts": record.attempt,
        "fallbacks": lines_of(record),
        "seed": record.spec.seed,
        "artifacts": [artifact.to_json() for artifact in artifacts],
        **({"variations": listed} if record.spec.list_seeds else {}),
        "data": decoded.data,
        "warnings": list(decoded.warnings),
        "timings": {
            "queued_s": _round(record.submitted - record.created),
            "waited_s": _round(delay_ms / 1000) if delay_ms is not None else None,
            "executed_s": _round(execution_ms / 1000) if execution_ms is not None else None,
            "total_s": _round(now - record.created),
        },
        "cost": estimate(record, execution_ms, delay_ms),
    }


def _round(seconds: float) -> float:
    return round(max(0.0, seconds), 3)
