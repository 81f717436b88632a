"""RunPod's JSON, in and out. No I/O.

Sources: docs.runpod.io, "Endpoint operations" and "Send requests"; payloads recorded from live endpoints in
RunPod's own examples; the checks of RunPod's command line client. What RunPod adds is ignored, what it leaves
out is None, a word not known for a status is `OTHER`. Numbers keep all their digits (RunPod's go past 2**53).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from ryla_tasks.errors import (
    EndpointNotFound,
    InvalidJob,
    MalformedAnswer,
    PayloadTooLarge,
    ProviderError,
    RateLimited,
    RemoteJobNotFound,
    RequestRejected,
    ServerError,
    Unauthorized,
)
from ryla_tasks.providers.base import EndpointHealth, Policy, RemoteJob, RemoteStatus, Submitted
from ryla_tasks.providers.excerpt import excerpt
from ryla_tasks.providers.http import Answer

__all__ = [
    "Chunks",
    "answered_object",
    "encode_run",
    "error_of",
    "parse_chunks",
    "parse_health",
    "parse_job",
    "parse_purged",
    "parse_retry_after",
    "parse_submitted",
]

_STATUSES = {str(status): status for status in RemoteStatus} | {"RUNNING": RemoteStatus.IN_PROGRESS}

#: Counts and times beyond this, in milliseconds some 30,000 years, are nonsense.
_MOST_WHOLE = 10**15


@dataclass(frozen=True, slots=True)
class Chunks:
    """One read of /stream: the partial outputs that nobody read before, and the job's status."""

    status: RemoteStatus
    outputs: list[Any]


def encode_run(job_input: Mapping[str, Any], policy: Policy | None, webhook: str | None, max_bytes: int) -> bytes:
    """The body of a /run. Raises `InvalidJob` or `PayloadTooLarge`, which name the field.

    An empty input is refused here: RunPod accepts it, and its worker then fails the job ("missing field(s):
    id or input") after waiting for a retry.
    """
    if not isinstance(job_input, Mapping) or not job_input:
        raise InvalidJob("the input must be a JSON object with something in it", field="input")
    payload: dict[str, Any] = {"input": dict(job_input)}
    if policy is not None:
        payload["policy"] = _policy(policy)
    if webhook is not None:
        if urlsplit(webhook).scheme not in ("http", "https"):
            raise InvalidJob("the webhook must be an http or https URL", field="webhook")
        payload["webhook"] = webhook
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        body = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The text of these errors names types and positions; that of a UnicodeError quotes the input.
        why = "a text in it is not valid Unicode" if isinstance(error, UnicodeError) else str(error)
        raise InvalidJob(f"the input cannot be written as JSON: {why}", field="input") from None
    if len(body) > max_bytes:
        raise PayloadTooLarge(
            f"the request is {len(body):,} bytes, the endpoint takes {max_bytes:,}: pass large files as URLs",
            field="input",
        )
    return body


def _policy(policy: Policy) -> dict[str, Any]:
    fields = {
        "executionTimeout": policy.execution_timeout,
        "ttl": policy.ttl,
        "lowPriority": policy.low_priority or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def parse_submitted(answer: Answer) -> Submitted:
    """The answer to /run. Without an id it is a `MalformedAnswer`: nobody could ever ask for the job."""
    data = answered_object(answer)
    remote_id = _text(data.get("id"))
    if not remote_id:
        raise MalformedAnswer("RunPod took the job without giving its id", http_status=answer.status)
    return Submitted(remote_id=remote_id, status=_status(data)[0])


def parse_job(answer: Answer, remote_id: str) -> RemoteJob:
    """The answer to /status, /cancel and /retry. Neither id nor status in it makes it a `MalformedAnswer`."""
    if answer.truncated:
        return RemoteJob(remote_id=remote_id, status=RemoteStatus.OTHER, truncated=True)
    data = answered_object(answer)
    answered_id = _text(data.get("id"))
    status, raw_status = _status(data)
    if not answered_id and not raw_status:
        raise MalformedAnswer("the answer has neither an id nor a status", http_status=answer.status)
    return RemoteJob(
        remote_id=answered_id or remote_id,
        status=status,
        raw_status=raw_status,
        delay_ms=_whole(data.get("delayTime")),
        execution_ms=_whole(data.get("executionTime")),
        worker_id=_text(data.get("workerId")) or None,
        output=data.get("output"),
        error=_error_text(data.get("error")),
        retries=_whole(data.get("retries")) or 0,
    )


def parse_health(answer: Answer) -> EndpointHealth:
    """The answer to /health. Counts with names not known here are kept."""
    data = answered_object(answer)
    jobs, workers = data.get("jobs"), data.get("workers")
    if not isinstance(jobs, dict) and not isinstance(workers, dict):
        raise MalformedAnswer("the answer has no counts of jobs or workers", http_status=answer.status)
    return EndpointHealth(jobs=_counts(jobs), workers=_counts(workers))


def parse_purged(answer: Answer) -> int:
    """The answer to /purge-queue: how many jobs were removed."""
    removed = _whole(answered_object(answer).get("removed"))
    if removed is None:
        raise MalformedAnswer("the answer does not say how many jobs were removed", http_status=answer.status)
    return removed


def parse_chunks(answer: Answer) -> Chunks:
    """The answer to /stream: `{"status": ..., "stream": [{"output": ...}]}`."""
    data = answered_object(answer)
    status, raw_status = _status(data)
    entries = data.get("stream")
    if not raw_status and not isinstance(entries, list):
        raise MalformedAnswer("the answer has neither a status nor a stream", http_status=answer.status)
    outputs = [
        entry["output"] if isinstance(entry, dict) and "output" in entry else entry
        for entry in (entries if isinstance(entries, list) else ())
    ]
    return Chunks(status=status, outputs=outputs)


def error_of(answer: Answer, *, about_job: bool, secrets: Iterable[str] = ()) -> ProviderError:
    """The error that an answer other than 2xx stands for. None of `secrets` gets into it.

    A 404 for a job says that the job is unknown, unless its body says plainly that the endpoint is: RunPod
    answers 404 for both, and the two ask for opposite reactions.
    """
    kind, what = _kind(answer, about_job)
    body = excerpt(answer.body, secrets)
    return kind(
        f"{what} (HTTP {answer.status}{': ' if body else ''}{body[:200]})",
        http_status=answer.status,
        retry_after=parse_retry_after(answer.headers.get("Retry-After")),
        body=body,
    )


def _kind(answer: Answer, about_job: bool) -> tuple[type[ProviderError], str]:
    status = answer.status
    if status in (401, 403):
        return Unauthorized, "RunPod refuses the API key"
    if status == 404:
        if about_job and not _says_no_endpoint(answer.body):
            return RemoteJobNotFound, "RunPod does not know the job"
        return EndpointNotFound, "RunPod does not know the endpoint"
    if status == 429:
        return RateLimited, "RunPod asks to slow down"
    if 400 <= status < 500:
        return RequestRejected, "RunPod refused the request"
    if 300 <= status < 400:
        # Not a refusal: a 303 follows a request that was carried out.
        return MalformedAnswer, "a redirect came back, and is not followed: check the base URL"
    return ServerError, "RunPod failed"


def _says_no_endpoint(body: bytes) -> bool:
    # RunPod has no error codes: its words are all there is to tell the two kinds of 404 apart.
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return False
    said = (data.get("error") or data.get("message")) if isinstance(data, dict) else None
    return isinstance(said, str) and said.strip().lower().startswith("endpoint not found")


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds to wait from a Retry-After header, given in seconds or as an HTTP date; None if it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, now or datetime.now(UTC))
    return max(0.0, seconds) if isfinite(seconds) else None


def _seconds_until(http_date: str, now: datetime) -> float:
    try:
        then = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return float("nan")
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return (then - now).total_seconds()


def answered_object(answer: Answer) -> dict[str, Any]:
    """An answer that must be a JSON object."""
    if answer.truncated:
        raise MalformedAnswer("the answer is too large to be one", http_status=answer.status)
    try:
        data = json.loads(answer.body)
    except (ValueError, RecursionError):
        # Not chained: the text of these errors may quote the answer.
        raise MalformedAnswer("the answer is not JSON", http_status=answer.status) from None
    if not isinstance(data, dict):
        raise MalformedAnswer("the answer is not a JSON object", http_status=answer.status)
    return data


def _status(data: Mapping[str, Any]) -> tuple[RemoteStatus, str]:
    raw = _text(data.get("status"))
    return _STATUSES.get(raw.upper(), RemoteStatus.OTHER), raw


def _text(value: Any) -> str:
    """A text that any store can hold; other types count as absent. JSON may hold halves of characters."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 <= value <= _MOST_WHOLE else None


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    counts = {_text(name): _whole(count) for name, count in value.items()}
    return {name: count for name, count in counts.items() if count is not None}


def _error_text(value: Any) -> str | None:
    """A worker's error is a text, which may itself be JSON, or an object, which becomes JSON text."""
    if value is None or isinstance(value, str):
        return None if value is None else _text(value)
    return _text(json.dumps(value, ensure_ascii=False))
