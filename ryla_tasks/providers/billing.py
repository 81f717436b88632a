"""What RunPod has billed, over HTTP: GET /billing/serverless of its management API, version 2.

Source: RunPod's published OpenAPI description of that API (2026-08). It bills an endpoint by the bucket of time, never
a job. What is not published: how late the bill of an hour is complete, and whether the starts of workers stand in
`gpuAmount`. It has been compared with the description, not with the live API.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr

from ryla_tasks.errors import MalformedAnswer, RequestRejected
from ryla_tasks.jobs.invoice import Amounts
from ryla_tasks.providers.http import Answer, HttpClient, Timeouts
from ryla_tasks.providers.repeat import CallRetry, repeat
from ryla_tasks.providers.runpod_wire import answered_object, error_of

__all__ = ["Billed", "RunPodBilling"]


@dataclass(frozen=True, slots=True)
class Billed:
    """What an endpoint was billed for an hour, in US dollars."""

    endpoint_id: str
    begins: datetime.datetime
    amounts: Amounts


class RunPodBilling:
    """The bills of one RunPod account. Safe to repeat, and repeated as `call_retry` says.

    Raises `ProviderError`s: `Unauthorized` where the key may not see bills (one restricted to endpoints may not).
    """

    def __init__(
        self,
        api_key: SecretStr,
        base_url: str,
        *,
        timeouts: Timeouts,
        call_retry: CallRetry = CallRetry(),  # noqa: B008 - frozen
    ) -> None:
        self._key = api_key
        self._call_retry = call_retry
        headers = {
            "Authorization": f"Bearer {api_key.get_secret_value()}",
            "Accept": "application/json",
            "User-Agent": "ryla-tasks",
        }
        self._http = HttpClient(base_url, headers, timeouts=timeouts, pool_size=1)

    def serverless(self, begins: datetime.datetime, ends: datetime.datetime) -> list[Billed]:
        """The bills of all endpoints for the hours from one time to another, both at an hour's beginning."""
        query = {"startTime": _rfc3339(begins), "endTime": _rfc3339(ends), "bucketSize": "hour"}
        path = f"/billing/serverless?{urlencode(query)}"

        def ask(deadline: float) -> list[Billed]:
            answer = self._http.call("GET", path, deadline=deadline)
            if answer.status == 404:
                raise RequestRejected(
                    "there are no bills at this address: check runpod_management_url", http_status=404
                )
            if not 200 <= answer.status < 300:
                raise error_of(answer, about_job=False, secrets=[self._key.get_secret_value()])
            return _records(answer)

        return repeat(self._call_retry, ask)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def _rfc3339(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _records(answer: Answer) -> list[Billed]:
    records = answered_object(answer).get("records")
    try:
        if not isinstance(records, list):
            raise TypeError
        return [_billed(record) for record in records]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise MalformedAnswer("the answer is not a bill", http_status=answer.status) from None


def _billed(record: Mapping[str, Any]) -> Billed:
    def amount(name: str) -> float:
        return float(record.get(name) or 0.0)

    compute = amount("gpuAmount") + amount("cpuAmount")
    return Billed(
        endpoint_id=str(record["serverlessId"]),
        begins=datetime.datetime.fromisoformat(record["startTime"]),
        amounts=Amounts(compute, amount("diskAmount"), amount("feeAmount")),
    )
