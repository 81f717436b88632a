"""RunPod's management API, as far as it is needed: how an endpoint is set up.

Source: RunPod's OpenAPI document of version 2 (`GET /v2/serverless/{id}` at https://api.runpod.io); version 1
(rest.runpod.io) is retired since 2026-11-15. Nothing here changes anything.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from ryla_tasks.errors import MalformedAnswer
from ryla_tasks.providers.http import Answer, HttpClient, Timeouts
from ryla_tasks.providers.runpod_wire import error_of

__all__ = ["EndpointSetup", "Management"]

_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EndpointSetup:
    """How an endpoint is set up. None where RunPod did not say. `timeout_s` is how long a job may run; RunPod says 0
    for its own default."""

    workers_min: int | None = None
    workers_max: int | None = None
    volumes: int | None = None
    timeout_s: float | None = None


class Management:
    """The management API with the key of one account. Each call is made once."""

    def __init__(self, api_key: SecretStr, base_url: str) -> None:
        self._key = api_key
        headers = {
            "Authorization": f"Bearer {api_key.get_secret_value()}",
            "Accept": "application/json",
            "User-Agent": "ryla-tasks",
        }
        self._http = HttpClient(base_url, headers, timeouts=Timeouts(), pool_size=1)

    def endpoint(self, endpoint_id: str, *, within_s: float) -> EndpointSetup:
        """How an endpoint is set up. Raises `ProviderError`: `EndpointNotFound`, `Unauthorized` and so on."""
        path = f"/serverless/{quote(endpoint_id, safe='')}"
        answer = self._http.call("GET", path, max_bytes=_MOST_BYTES, deadline=time.monotonic() + within_s)
        if not 200 <= answer.status < 300:
            raise error_of(answer, about_job=False, secrets=[self._key.get_secret_value()])
        return _setup_of(answer)


def _setup_of(answer: Answer) -> EndpointSetup:
    try:
        data: Any = json.loads(answer.body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or "id" not in data:
        raise MalformedAnswer("the answer is not an endpoint's setup", http_status=answer.status)
    workers = data.get("workers")
    workers = workers if isinstance(workers, dict) else {}
    volumes, timeout = data.get("networkVolumes"), _whole(data.get("timeout"))
    return EndpointSetup(
        workers_min=_whole(workers.get("min")),
        workers_max=_whole(workers.get("max")),
        volumes=len(volumes) if isinstance(volumes, list) else None,
        timeout_s=None if timeout is None else timeout / 1000,
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
