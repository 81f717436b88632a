"""Every error that ryla_tasks raises, in one tree.

    RylaError
    ├── ConfigurationError          a setting is missing or wrong; names it
    ├── InvalidJob                  bad input, found in the caller; names the field (is a ValueError)
    │   ├── UnknownTemplate
    │   ├── PayloadTooLarge
    │   └── IdempotencyConflict
    ├── NotSignedIn                 a web app does not know who asks
    ├── JobNotFound                 no record under this id (never made, or past its retention)
    ├── StoreError
    │   ├── StoreUnavailable        Redis did not answer in time
    │   └── EnqueueUnknown          Redis may or may not have stored the job; has .job_id
    ├── WaitTimeout                 the caller's patience ended, the job goes on (is a TimeoutError)
    ├── ProviderError               one call to a GPU cloud went wrong
    │   ├── TransientError          try again later
    │   │   ├── NotConnected        nothing was sent: refused, DNS, TLS handshake
    │   │   ├── AnswerLost          sent, and the answer never came whole
    │   │   ├── RateLimited         429; has .retry_after
    │   │   └── ServerError         5xx
    │   ├── RecoverableError        look again, judge by circumstances
    │   │   ├── RemoteJobNotFound   404 for a job id
    │   │   └── MalformedAnswer     2xx that is not what the API promises
    │   ├── PermanentError          the same call will fail again
    │   │   ├── RequestRejected     4xx
    │   │   └── EndpointNotFound    404 for the endpoint
    │   └── FatalError              nothing will work until somebody acts
    │       └── Unauthorized        401 or 403
    └── JobError                    a job ended without a result; what AsyncResult.get() raises
        ├── JobFailed               the remote side, or its output, failed
        │   ├── OutputMissing       COMPLETED, and no output
        │   ├── OutputInvalid       output that is not what was asked for
        │   └── SubmitRejected      the endpoint would not take the job
        ├── BudgetExceeded          the job would cost, or has cost, more than a ceiling allows
        ├── SubmitOutcomeUnknown    the answer to the submit was lost, and the policy says stop
        ├── JobCancelled
        ├── JobTimedOut             the deadline, or RunPod's time limit
        └── JobExpired              not started before its start-by time, or lost past retention

A `JobError` travels through Celery's JSON result backend and comes back as itself: its `args` are exactly
`(message, info)`, both plain JSON.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

__all__ = [
    "AnswerLost",
    "BudgetExceeded",
    "Category",
    "ConfigurationError",
    "EndpointNotFound",
    "EnqueueUnknown",
    "FatalError",
    "IdempotencyConflict",
    "InvalidJob",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobNotFound",
    "JobTimedOut",
    "MalformedAnswer",
    "NotConnected",
    "NotSignedIn",
    "OutputInvalid",
    "OutputMissing",
    "PayloadTooLarge",
    "PermanentError",
    "ProviderError",
    "RateLimited",
    "RecoverableError",
    "RemoteJobNotFound",
    "RequestRejected",
    "RylaError",
    "ServerError",
    "StoreError",
    "StoreUnavailable",
    "SubmitOutcomeUnknown",
    "SubmitRejected",
    "TransientError",
    "Unauthorized",
    "UnknownTemplate",
    "WaitTimeout",
]


class Category(StrEnum):
    """What kind of trouble an error is, and so what may be done about it."""

    TRANSIENT = "transient"
    RECOVERABLE = "recoverable"
    PERMANENT = "permanent"
    FATAL = "fatal"


class RylaError(Exception):
    """Something in ryla_tasks went wrong."""


class ConfigurationError(RylaError):
    """A setting is missing or wrong.

    `setting` is the name to set, as the user writes it in the environment.
    """

    def __init__(self, message: str, setting: str = "") -> None:
        super().__init__(message)
        self.setting = setting


class InvalidJob(RylaError, ValueError):
    """What was asked for cannot be a job. Nothing was stored and nothing sent.

    `field` is the argument at fault, with a dotted path for nested ones.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnknownTemplate(InvalidJob):
    """There is no workflow template of this name."""


class PayloadTooLarge(InvalidJob):
    """The input is larger than the endpoint accepts (RunPod: 10 MB for /run)."""


class IdempotencyConflict(InvalidJob):
    """The idempotency key was used before, with a different input."""


class NotSignedIn(RylaError):
    """Sign in first."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or ""))


class JobNotFound(RylaError, KeyError):
    """No job has this id: it was never made, or its record has expired."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return Exception.__str__(self)


class StoreError(RylaError):
    """The job store could not do what was asked."""


class StoreUnavailable(StoreError):
    """Redis did not answer in time.

    `sent` says whether the command had been sent, so that it may have been carried out all the same.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class EnqueueUnknown(StoreError):
    """Redis may or may not have stored the job. Creating it again with `job_id` as its id is safe."""

    def __init__(self, message: str, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class WaitTimeout(RylaError, TimeoutError):
    """The time to wait is over. The job goes on."""


class ProviderError(RylaError):
    """One call to a GPU cloud went wrong.

    Says which endpoint, which remote job and which HTTP status it was; `body` is at most 500 characters of the
    answer, with nothing of the request in it. `retry_after` is in seconds, where the server said one.
    """

    category: Category = Category.TRANSIENT

    def __init__(
        self,
        message: str,
        *,
        endpoint_id: str = "",
        remote_id: str = "",
        http_status: int | None = None,
        retry_after: float | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.endpoint_id = endpoint_id
        self.remote_id = remote_id
        self.http_status = http_status
        self.retry_after = retry_after
        self.body = body


class TransientError(ProviderError):
    """It may well work if tried again later."""

    category = Category.TRANSIENT


class NotConnected(TransientError):
    """Nothing reached the server: connection refused, no address, or no TLS handshake."""


class AnswerLost(TransientError):
    """The request was sent, at least in part, and no whole answer came back: what it did is not known."""


class RateLimited(TransientError):
    """The server asks us to slow down (429)."""


class ServerError(TransientError):
    """The server failed (5xx): what it did is not known."""


class RecoverableError(ProviderError):
    """What it means depends on the circumstances; look again before giving up."""

    category = Category.RECOVERABLE


class RemoteJobNotFound(RecoverableError):
    """The endpoint does not know the job: just made, expired, lost, or the wrong endpoint."""


class MalformedAnswer(RecoverableError):
    """A success status with a body that is not what the API promises."""


class PermanentError(ProviderError):
    """The same call would fail again."""

    category = Category.PERMANENT


class RequestRejected(PermanentError):
    """The server refused the request (4xx): it did nothing."""


class EndpointNotFound(PermanentError):
    """There is no such endpoint: the id is wrong, or it was deleted."""


class FatalError(ProviderError):
    """Nothing will work until somebody acts."""

    category = Category.FATAL


class Unauthorized(FatalError):
    """The API key is missing, wrong, or may not use this endpoint (401, 403)."""


class JobError(RylaError):
    """A job ended without a result.

    `info` holds `job_id`, `code` (a stable word for programs), `category`, and `details` for a developer; the
    message is one sentence for the person who waits. It is plain JSON, so that the error that a worker raised
    and the error that `AsyncResult.get()` raises in a web process are equal.
    """

    code = "job_error"

    def __init__(self, message: str = "", info: dict[str, Any] | None = None) -> None:
        self.info: dict[str, Any] = dict(info or {})
        super().__init__(message or (type(self).__doc__ or "").split("\n")[0], self.info)

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:  # what logs and Celery's events show: not the details, a GPU worker's own words
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def job_id(self) -> str:
        return str(self.info.get("job_id", ""))

    @property
    def category(self) -> Category:
        return Category(self.info.get("category", Category.PERMANENT))

    @property
    def details(self) -> Any:
        return self.info.get("details")


class JobFailed(JobError):
    """The job failed on the GPU side."""

    code = "failed"


class OutputMissing(JobFailed):
    """The job completed without any output."""

    code = "output_missing"


class OutputInvalid(JobFailed):
    """The job completed, but its output is not what was asked for."""

    code = "output_invalid"


class SubmitRejected(JobFailed):
    """The endpoint would not take the job."""

    code = "submit_rejected"


class BudgetExceeded(JobError):
    """The job would cost more than a budget allows."""

    code = "budget_job"


class SubmitOutcomeUnknown(JobError):
    """Whether the endpoint took the job is not known, and it was not tried again."""

    code = "submit_unknown"


class JobCancelled(JobError):
    """The job was cancelled."""

    code = "cancelled"


class JobTimedOut(JobError):
    """The job took too long."""

    code = "timed_out"


class JobExpired(JobError):
    """The job was not started in time, or its result expired before it was fetched."""

    code = "expired"
