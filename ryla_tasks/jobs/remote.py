"""What a GPU cloud says of a job: the words and the fields that the engine reasons about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["RemoteJob", "RemoteStatus"]


class RemoteStatus(StrEnum):
    """A remote job's status, in RunPod's words. OTHER stands for any word not known here: it is not an end."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    OTHER = "OTHER"

    @property
    def ended(self) -> bool:
        return self in _ENDED


_ENDED = frozenset({RemoteStatus.COMPLETED, RemoteStatus.FAILED, RemoteStatus.CANCELLED, RemoteStatus.TIMED_OUT})


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """What the cloud says of one job. Times are milliseconds, None where the cloud gave none.

    `truncated` means that the answer was larger than the caller wanted to read: `status` is then OTHER and
    `output` None, and a caller who wants them asks again without a limit.
    """

    remote_id: str
    status: RemoteStatus
    raw_status: str = ""
    delay_ms: int | None = None
    execution_ms: int | None = None
    worker_id: str | None = None
    output: Any = None
    error: str | None = None
    retries: int = 0
    truncated: bool = False
