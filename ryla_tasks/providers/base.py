"""The seam to a GPU cloud: what the engine asks of one, and the types it answers in.

A provider is one account at one cloud. It holds no job state and knows no Redis. Everything it raises is a
`ProviderError`; a wrong argument is an `InvalidJob`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ryla_tasks.errors import FatalError, InvalidJob, NotConnected, PermanentError, RateLimited
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.providers.tally import Tally

__all__ = ["EndpointHealth", "Policy", "Provider", "RemoteJob", "RemoteStatus", "Submitted", "was_not_accepted"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits that travel with one submit, in milliseconds.

    `execution_timeout` counts only while the job runs (5 s to 7 days); `ttl` counts from submission, and when it
    ends RunPod deletes the job even if it runs (10 s to 7 days).
    """

    execution_timeout: int | None = None
    ttl: int | None = None
    low_priority: bool = False


@dataclass(frozen=True, slots=True)
class Submitted:
    """The cloud has taken the job under this id."""

    remote_id: str
    status: RemoteStatus


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """Counts of an endpoint's jobs and workers. Worker counts overlap (an idle worker is also ready): never add
    them up."""

    jobs: Mapping[str, int] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)


def was_not_accepted(error: BaseException) -> bool:
    """Whether `error`, raised by `Provider.run` or `retry`, means that the cloud surely did not take the job.

    False stands for "not known": a job may be running and paid for, so submitting again may pay twice. Errors
    that are not known here, such as an interruption of the thread, are among those.
    """
    return isinstance(error, (NotConnected, RateLimited, PermanentError, FatalError, InvalidJob))


class Provider(Protocol):
    """One account at one GPU cloud. Safe for use by many threads. `tally` counts its calls."""

    name: str
    tally: Tally

    def run(
        self,
        endpoint_id: str,
        job_input: Mapping[str, Any],
        *,
        policy: Policy | None = None,
        webhook: str | None = None,
    ) -> Submitted:
        """Submit once, on a fresh connection; never repeated here.

        `NotConnected`, `RateLimited`, `PermanentError` and `FatalError` mean that the job was not taken;
        `AnswerLost`, `ServerError` and `MalformedAnswer` mean that it may have been.
        """
        ...

    def status(
        self, endpoint_id: str, remote_id: str, *, max_bytes: int | None = None, patient: bool = True
    ) -> RemoteJob:
        """Ask for one job's state. `patient=False` asks once, without retries and without waiting."""
        ...

    def cancel(self, endpoint_id: str, remote_id: str) -> RemoteJob:
        """Cancel; safe to repeat. The answer may be an end that came first."""
        ...

    def retry(self, endpoint_id: str, remote_id: str) -> RemoteJob:
        """Have the cloud run a FAILED or TIMED_OUT job again under the same id. Never repeated here."""
        ...

    def health(self, endpoint_id: str, *, within_s: float | None = None) -> EndpointHealth:
        """Counts of jobs and workers. An existing endpoint with no worker at all answers too. With `within_s` it is
        asked once, and takes no longer."""
        ...

    def purge(self, endpoint_id: str) -> int:
        """Remove every queued job; returns how many."""
        ...

    def stream(self, endpoint_id: str, remote_id: str) -> Iterator[Any]:
        """Yield the job's partial outputs as they come, each once, until the job has ended."""
        ...
