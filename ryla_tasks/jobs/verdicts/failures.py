"""What can be seen to fail: one type for each place where a failure shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ryla_tasks.errors import ProviderError
from ryla_tasks.jobs.remote import RemoteJob

__all__ = ["Absence", "Absent", "Failure", "Refused", "RemoteEnded", "Reported", "StatusFailed", "SubmitLost"]


class Absence(StrEnum):
    """Why an endpoint answers 404 for a job that it was given, as far as the job's age tells."""

    JUST_MADE = "just_made"
    VANISHED = "vanished"
    ENDPOINT_GONE = "endpoint_gone"
    WRONG_ENDPOINT = "wrong_endpoint"
    TTL = "ttl"
    RESULT_EXPIRED = "result_expired"
    LOST = "lost"

    @property
    def may_pass(self) -> bool:
        """Whether the endpoint may yet come to know the job."""
        return self in (Absence.JUST_MADE, Absence.VANISHED)


@dataclass(frozen=True, slots=True)
class Refused:
    """The endpoint surely did not take the job."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class SubmitLost:
    """Whether the endpoint took the job is not known. No error: the process that sent it is gone."""

    error: ProviderError | None = None


@dataclass(frozen=True, slots=True)
class StatusFailed:
    """A question after a job went wrong, which says nothing of the job."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class Absent:
    """The endpoint does not know the job (404)."""

    why: Absence


@dataclass(frozen=True, slots=True)
class RemoteEnded:
    """The remote job ended FAILED, TIMED_OUT or CANCELLED."""

    job: RemoteJob


@dataclass(frozen=True, slots=True)
class Reported:
    """What a GPU worker, or the ComfyUI in it, says went wrong: a text, JSON as text, or JSON.

    `more` is what it says besides: worker-comfyui's `details`, the output of a failed job.
    """

    error: Any
    more: Any = None


Failure = Refused | SubmitLost | StatusFailed | Absent | RemoteEnded | Reported
