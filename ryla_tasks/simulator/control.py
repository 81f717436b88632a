"""The control API under /simulator: what RunPod does not have, for tests and demos."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..errors import ConfigurationError
from .config import EndpointConfig
from .faults import FaultView, parse_fault
from .hosting import HostedEndpoint
from .programme import FaultProgramme
from .replies import Refusal, read_body, reply
from .views import EndpointView, JobView, WorkerView, view_endpoint, view_job, view_workers

if TYPE_CHECKING:
    from .server import Simulator

__all__ = ["ControlApi"]

_BODY_BYTES = 64 * 1024 * 1024

_ENDPOINTS = TypeAdapter(list[EndpointView])
_FAULTS = TypeAdapter(list[FaultView])
_JOBS = TypeAdapter(list[JobView])
_WORKERS = TypeAdapter(list[WorkerView])

_Handler = Callable[[web.BaseRequest, list[str]], Awaitable[web.Response]]


class ControlApi:
    """Routes, each with what it takes and gives:

    POST   /simulator/reset                              all as at the start, without jobs
    POST   /simulator/programme                          FaultProgramme: begins now, in place of all faults
    GET    /simulator/endpoints                          [EndpointView]
    POST   /simulator/endpoints                          EndpointConfig -> EndpointView
    GET    /simulator/endpoints/{id}                     EndpointView
    PATCH  /simulator/endpoints/{id}                     some fields of EndpointConfig -> EndpointView
    DELETE /simulator/endpoints/{id}
    GET    /simulator/endpoints/{id}/counters            CounterSnapshot
    GET    /simulator/endpoints/{id}/jobs                [JobView]
    GET    /simulator/endpoints/{id}/jobs/{job}          JobView, with its input
    GET    /simulator/endpoints/{id}/workers             [WorkerView], those that joined
    GET    /simulator/endpoints/{id}/faults              [FaultView]
    POST   /simulator/endpoints/{id}/faults              Fault -> {"number"}
    DELETE /simulator/endpoints/{id}/faults              takes all away
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._root: dict[tuple[str, str], _Handler] = {
            ("GET", "endpoints"): self._endpoints,
            ("POST", "endpoints"): self._add_endpoint,
            ("POST", "reset"): self._reset,
            ("POST", "programme"): self._follow,
        }
        self._one: dict[tuple[str, str], _Handler] = {
            ("GET", ""): self._endpoint,
            ("PATCH", ""): self._update,
            ("DELETE", ""): self._remove,
            ("GET", "counters"): self._counters,
            ("GET", "jobs"): self._jobs,
            ("GET", "workers"): self._workers,
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
        }

    async def handle(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        """One request; `parts` is the path behind /simulator."""
        try:
            return await self._route(request.method, parts)(request, parts)
        except Refusal as refusal:
            return refusal.response()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return Refusal(400, f"{where}: {first['msg']}" if where else first["msg"]).response()
        except ConfigurationError as error:
            return Refusal(400, str(error)).response()

    def _route(self, method: str, parts: list[str]) -> _Handler:
        handler = None
        match parts:
            case [noun]:
                handler = self._root.get((method, noun))
            case ["endpoints", _, *rest] if len(rest) <= 1:
                handler = self._one.get((method, rest[0] if rest else ""))
            case ["endpoints", _, "jobs", _] if method == "GET":
                handler = self._job
        if handler is None:
            raise Refusal(404, "not found; GET / says what there is")
        return handler

    def _find(self, parts: list[str]) -> HostedEndpoint:
        endpoint = self._simulator.endpoints.get(parts[1])
        if endpoint is None:
            raise Refusal(404, f"there is no endpoint {parts[1]!r}")
        endpoint.advance()
        return endpoint

    async def _reset(self, _: web.BaseRequest, __: list[str]) -> web.Response:
        self._simulator.reset()
        return reply({})

    async def _follow(self, request: web.BaseRequest, _: list[str]) -> web.Response:
        self._simulator.follow(FaultProgramme.model_validate(await read_body(request, _BODY_BYTES)))
        return reply({})

    async def _endpoints(self, _: web.BaseRequest, __: list[str]) -> web.Response:
        views = [view_endpoint(endpoint) for endpoint in self._simulator.endpoints.values()]
        return reply(_ENDPOINTS.dump_json(views))

    async def _add_endpoint(self, request: web.BaseRequest, _: list[str]) -> web.Response:
        config = EndpointConfig.model_validate(await read_body(request, _BODY_BYTES))
        if config.endpoint_id in self._simulator.endpoints:
            raise Refusal(409, f"there is an endpoint {config.endpoint_id!r} already")
        return _shown(view_endpoint(self._simulator.add_endpoint(config)))

    async def _endpoint(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        return _shown(view_endpoint(self._find(parts)))

    async def _update(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        changes = await read_body(request, _BODY_BYTES)
        endpoint = self._find(parts)
        if not isinstance(changes, dict) or changes.get("endpoint_id", parts[1]) != parts[1] or "faults" in changes:
            raise Refusal(400, "give fields of EndpointConfig to change, but not endpoint_id or faults")
        whole = json.loads(endpoint.config.model_dump_json())
        endpoint.reconfigure(EndpointConfig.model_validate({**whole, **changes}))
        return _shown(view_endpoint(endpoint))

    async def _remove(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        self._find(parts)
        self._simulator.remove_endpoint(parts[1])
        return reply({})

    async def _counters(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        return _shown(self._find(parts).counters())

    async def _jobs(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        jobs = self._find(parts).core.jobs.values()
        return reply(_JOBS.dump_json([view_job(parts[1], job) for job in jobs]))

    async def _job(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        job = self._find(parts).find(parts[3])
        if job is None:
            raise Refusal(404, f"endpoint {parts[1]!r} has no job {parts[3]!r}")
        return _shown(view_job(parts[1], job, whole=True))

    async def _workers(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        return reply(_WORKERS.dump_json(view_workers(self._find(parts))))

    async def _faults(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        return reply(_FAULTS.dump_json(self._find(parts).faults.view()))

    async def _add_fault(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        fault = parse_fault(await read_body(request, _BODY_BYTES))
        return reply({"number": self._find(parts).faults.add(fault)})

    async def _clear_faults(self, _: web.BaseRequest, parts: list[str]) -> web.Response:
        self._find(parts).faults.clear()
        return reply({})


def _shown(view: BaseModel) -> web.Response:
    return reply(view.model_dump_json().encode())
