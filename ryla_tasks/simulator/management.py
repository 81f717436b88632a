"""RunPod's management API, version 2, as far as it says how an endpoint is set up: `GET /v2/serverless/{id}`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aiohttp import web

from .hosting import HostedEndpoint
from .replies import Refusal, authorized, reply

__all__ = ["ManagementApi"]


class ManagementApi:
    """Answers with an endpoint's setup. The real one has its own host; here it stands beside the serverless API."""

    def __init__(self, endpoints: Mapping[str, HostedEndpoint], keys: Collection[str]) -> None:
        self._endpoints = endpoints
        self._keys = keys

    async def endpoint(self, request: web.BaseRequest, endpoint_id: str) -> web.Response:
        if not authorized(request, self._keys):
            return Refusal(401, "unauthorized").response()
        endpoint = self._endpoints.get(endpoint_id)
        if endpoint is None:
            return Refusal(404, "endpoint not found").response()
        if request.method != "GET":
            return Refusal(405, "method not allowed").response()
        return reply(_setup(endpoint))


def _setup(endpoint: HostedEndpoint) -> dict[str, Any]:
    config = endpoint.config
    return {
        "id": config.endpoint_id,
        "name": config.endpoint_id,
        "type": "QUEUE",
        "workers": {"min": config.workers_min, "max": config.workers_max, "idleTimeout": round(config.idle_timeout_s)},
        "networkVolumes": list(config.volumes),
        "timeout": round(config.execution_timeout_s * 1000),
    }
