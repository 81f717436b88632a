"""What the engine can come to know of a job, one type for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ryla_tasks.errors import JobError, ProviderError
from ryla_tasks.jobs.remote import RemoteJob

__all__ = [
    "Collected",
    "Missing",
    "NoAnswer",
    "NotAccepted",
    "Observation",
    "OutcomeUnknown",
    "OutputBad",
    "Seen",
    "StillUnknown",
    "Trouble",
    "Uncollected",
]


@dataclass(frozen=True, slots=True)
class Seen:
    """The cloud answered."""

    job: RemoteJob


@dataclass(frozen=True, slots=True)
class Missing:
    """The cloud does not know the job (404)."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The ride ended before the answer came. Nothing is known, and nothing is held against the endpoint."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The status call went wrong."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class NotAccepted:
    """The endpoint surely did not take the job."""

    error: ProviderError


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The submit may or may not have been taken. No error: the process that sent it is gone."""

    error: ProviderError | None = None


@dataclass(frozen=True, slots=True)
class StillUnknown:
    """The time is over that the policy gave for an unknown submit to turn up."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The output is stored, and this is the result."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OutputBad:
    """The job completed, and its output is no result."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Uncollected:
    """The output could not be fetched or stored this time."""

    reason: str


Observation = (
    Seen
    | Missing
    | NoAnswer
    | Trouble
    | NotAccepted
    | OutcomeUnknown
    | StillUnknown
    | Collected
    | OutputBad
    | Uncollected
)
