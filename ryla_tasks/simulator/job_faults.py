"""What can be made to go wrong with jobs and with the workers that run them."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from .fault_base import FaultBase

__all__ = ["CrashWorker", "DropOutput", "ExpireResult", "FailStart", "LateProgress", "NeverEnd", "TruncateOutput"]

_LONG_TEXT = 64


class CrashWorker(FaultBase):
    """A run ends with the death of its worker, `after_s` from its start or half way. Simulated workers only: kill a
    joined one yourself. What counts here is a run."""

    kind: Literal["crash_worker"] = "crash_worker"
    after_s: float | None = Field(None, ge=0)


class NeverEnd(FaultBase):
    """A run goes on until it is cancelled or times out. Simulated workers only. What counts here is a run."""

    kind: Literal["never_end"] = "never_end"


class LateProgress(FaultBase):
    """A progress arrives after the end, and the job is IN_PROGRESS again for good (runpod-python #250).

    With simulated workers it does so `after_s` after a COMPLETED, and what counts is such an end; with joined ones
    what counts is a progress that their SDK really sends late, which otherwise changes nothing.
    """

    kind: Literal["late_progress"] = "late_progress"
    after_s: float = Field(1.0, ge=0)


class ExpireResult(FaultBase):
    """A job that has ended is forgotten `after_s` later, before its retention is over: /status is 404. What counts here
    is an end."""

    kind: Literal["expire_result"] = "expire_result"
    after_s: float = Field(0.0, ge=0)


class DropOutput(FaultBase):
    """COMPLETED, but the output is gone (runpod-python #309). What counts here is an end with COMPLETED."""

    kind: Literal["drop_output"] = "drop_output"

    def spoil(self, output: bytes) -> bytes | None:  # noqa: ARG002
        return None


class TruncateOutput(FaultBase):
    """COMPLETED, but each long text of the output, such as a file in base64, is cut off half way. What counts here is
    an end with COMPLETED."""

    kind: Literal["truncate_output"] = "truncate_output"

    def spoil(self, output: bytes) -> bytes | None:
        """The output's JSON with its long texts cut."""
        return json.dumps(_cut(json.loads(output)), separators=(",", ":")).encode()


class FailStart(FaultBase):
    """A worker that should start does not: it crashes at the end of its cold start (`unhealthy`), or there is no
    machine for it (`throttled`). It takes up its place, and is tried again after `retry_s`; struck each time, that is a
    crash loop. Simulated workers only. What counts here is a start."""

    kind: Literal["fail_start"] = "fail_start"
    state: Literal["unhealthy", "throttled"] = "unhealthy"
    retry_s: float = Field(30.0, gt=0)


def _cut(value: Any) -> Any:
    match value:
        case str() if len(value) > _LONG_TEXT:
            return value[: len(value) // 2]
        case list():
            return [_cut(one) for one in value]
        case dict():
            return {name: _cut(one) for name, one in value.items()}
    return value
