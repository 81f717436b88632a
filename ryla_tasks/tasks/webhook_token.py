"""The token in an attempt's webhook address: it names the attempt, and only we can have made it.

RunPod signs nothing (runpod-python #413), so the address itself is the secret: `JOB.ATTEMPT.MAC`, where the MAC is an
HMAC of job and attempt. It is never logged, and never shown in an error.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

from pydantic import SecretStr

from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.settings import Settings

__all__ = ["Attempt", "make_token", "read_token", "webhook_of"]

_LONGEST = 300
_MAC_BYTES = 18


@dataclass(frozen=True, slots=True)
class Attempt:
    """One submit of a job."""

    job_id: str
    number: int


def webhook_of(settings: Settings, record: JobRecord) -> str | None:
    """The webhook address of a record's attempt; None where webhooks are not set up."""
    if settings.webhook_url is None or settings.webhook_secret is None:
        return None
    return f"{settings.webhook_url}/{make_token(settings.webhook_secret, Attempt(record.job_id, record.attempt))}"


def make_token(secret: SecretStr, attempt: Attempt) -> str:
    """The token of an attempt, fit for one part of a URL's path."""
    job = base64.urlsafe_b64encode(attempt.job_id.encode()).decode().rstrip("=")
    return f"{job}.{attempt.number}.{_mac(secret, attempt)}"


def read_token(secret: SecretStr, token: str) -> Attempt | None:
    """The attempt that a token names; None for one that is not ours. Compares in constant time."""
    parts = token.split(".")
    if len(token) > _LONGEST or len(parts) != 3 or not token.isascii() or not parts[1].isdigit():
        return None
    try:
        job_id = base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)).decode()
        attempt = Attempt(job_id, int(parts[1]))
    except ValueError:
        return None
    return attempt if hmac.compare_digest(_mac(secret, attempt), parts[2]) else None


def _mac(secret: SecretStr, attempt: Attempt) -> str:
    text = f"ryla-webhook\n{attempt.job_id}\n{attempt.number}".encode()
    digest = hmac.new(secret.get_secret_value().encode(), text, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:_MAC_BYTES]).decode()
