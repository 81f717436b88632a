"""Checks what is posted to /run, and makes a job of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from .config import EndpointConfig
from .jobs import SimJob
from .replies import Refusal

__all__ = ["read_submission"]

# RunPod docs, send-requests, "Execution policies": milliseconds.
_EXECUTION_TIMEOUT_MS = (5_000, 604_800_000)
_TTL_MS = (10_000, 604_800_000)


def read_submission(body: Any, config: EndpointConfig, now: float, *, sync: bool) -> SimJob:
    """The job that a body asks for; `Refusal` 400 for one that RunPod would not take.

    `input` must be an object. Top-level keys that mean nothing are discarded (older RunPod docs, send-requests). What
    RunPod does with a policy out of its published range is not known; here it is refused, so that a test shows it.
    """
    if not isinstance(body, Mapping):
        raise Refusal(400, "request body must be a JSON object")
    job_input = body.get("input")
    if not isinstance(job_input, dict):
        raise Refusal(400, "input must be an object")
    webhook = body.get("webhook")
    if webhook is not None and not isinstance(webhook, str):
        raise Refusal(400, "webhook must be a string")
    policy = body.get("policy")
    if policy is None:
        policy = {}
    if not isinstance(policy, Mapping):
        raise Refusal(400, "policy must be an object")
    job_id = f"{uuid4()}-u1"
    return SimJob(
        id=f"sync-{job_id}" if sync else job_id,
        input=job_input,
        submitted_at=now,
        ttl_s=_seconds(policy, "ttl", _TTL_MS, config.ttl_s),
        execution_timeout_s=_seconds(policy, "executionTimeout", _EXECUTION_TIMEOUT_MS, config.execution_timeout_s),
        webhook=webhook or None,
        low_priority=policy.get("lowPriority") is True,
        sync=sync,
        s3_config=body.get("s3Config"),
    )


def _seconds(policy: Mapping[str, Any], name: str, bounds: tuple[int, int], default: float) -> float:
    value = policy.get(name)
    if value is None:
        return default
    low, high = bounds
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refusal(400, f"policy.{name} must be a number of milliseconds from {low} to {high}")
    return value / 1000
