"""The simulator itself: endpoints, and the HTTP server in front of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..errors import ConfigurationError
from .api import RunPodApi
from .billing import BillingApi
from .clock import Clock
from .config import EndpointConfig, SimulatorConfig
from .control import ControlApi
from .hosting import HostedEndpoint
from .management import ManagementApi
from .operations import WorkerOperation
from .outputs import OutputShelf
from .programme import FaultProgramme
from .programs import PROGRAMS, Program
from .replies import Refusal, reply
from .webhooks import WebhookSender
from .worker_api import WorkerApi

if TYPE_CHECKING:
    from .background import RunningSimulator

__all__ = ["Simulator"]

_WORKER_OPERATIONS = frozenset(WorkerOperation)
_SHUTDOWN_S = 0.5
"""How long a stop waits for answers under way: some are held back on purpose."""


class Simulator:
    """A RunPod that runs on a laptop. Lives in one event loop: `start`, `stop` and all else are called there.

    From other code use `running`, which gives it a thread and hands out a thread-safe face. `programs` adds to what
    GPU workers can run, by the name that `EndpointConfig.program` gives.

    It simulates; where RunPod's behaviour is not published the docstrings say what was chosen. It has been compared
    with captures of the API, not with the API.
    """

    def __init__(self, config: SimulatorConfig, programs: Mapping[str, Program] | None = None) -> None:
        self.config = config
        self.clock = Clock(config.time_scale)
        self.endpoints: dict[str, HostedEndpoint] = {}
        self._programme = config.programme
        self._programs = {**PROGRAMS, **(programs or {})}
        self._runner: web.ServerRunner | None = None
        self._url = ""

    @staticmethod
    def running(config: SimulatorConfig, programs: Mapping[str, Program] | None = None) -> RunningSimulator:
        """Start one in a thread of its own, and give a face for it that any thread may use; a context manager."""
        from .background import RunningSimulator  # it is built on this class

        return RunningSimulator(config, programs)

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at its end; the API's base is this and `/v2`."""
        return self._url

    async def start(self) -> None:
        """Listen. Raises `ConfigurationError` if it cannot, or if an endpoint names an unknown program."""
        self._shelf = OutputShelf()
        self._webhooks = WebhookSender(self.clock, self.config.webhook_retries_s)
        self._api = RunPodApi(self.clock, self.endpoints, self.config.keys)
        self._worker_api = WorkerApi(self.clock, self.endpoints, self.config.keys)
        self._management = ManagementApi(self.endpoints, self.config.keys)
        self._billing = BillingApi(self.clock, self.endpoints, self.config.keys)
        self._control = ControlApi(self)
        try:
            if self._programme is not None:
                self._programme.check([endpoint.endpoint_id for endpoint in self.config.endpoints])
            for endpoint in self.config.endpoints:
                self.add_endpoint(endpoint)
            await self._listen()
        except BaseException:
            await self.stop()
            raise

    async def _listen(self) -> None:
        # The low-level server: a router and its middlewares would cost a third of the status calls a second.
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), handle_signals=False, shutdown_timeout=_SHUTDOWN_S
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.host, self.config.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            message = f"the simulator cannot listen on {self.config.host}:{self.config.port}: {error.strerror}"
            raise ConfigurationError(message, "port") from error
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        self._url = f"http://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening and forget everything."""
        for endpoint_id in [*self.endpoints]:
            self.remove_endpoint(endpoint_id)
        if self._runner is not None:
            await self._runner.cleanup()
        await self._webhooks.close()
        self._shelf.close()

    def add_endpoint(self, config: EndpointConfig) -> HostedEndpoint:
        """Open one more endpoint, or one anew in place of that with the same id."""
        opened = HostedEndpoint(
            config,
            seed=self.config.seed,
            clock=self.clock,
            programs=self._programs,
            shelf=self._shelf,
            webhooks=self._webhooks,
            programme=self._programme,
        )
        self.remove_endpoint(config.endpoint_id)
        self.endpoints[config.endpoint_id] = opened
        return opened

    def remove_endpoint(self, endpoint_id: str) -> None:
        """Close an endpoint: calls to it are 404 from now on, its jobs are forgotten."""
        endpoint = self.endpoints.pop(endpoint_id, None)
        if endpoint is not None:
            endpoint.close()

    def follow(self, programme: FaultProgramme) -> None:
        """Let a programme begin now, in place of all faults that are set."""
        programme.check(self.endpoints)
        for endpoint in self.endpoints.values():
            endpoint.faults.clear()
            endpoint.follow(programme)

    def reset(self) -> None:
        """Every endpoint anew, with its present settings: no jobs, no counters, its first faults."""
        for endpoint in [*self.endpoints.values()]:
            self.add_endpoint(endpoint.config)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if "Upgrade" in request.headers:
            # What a queue endpoint says to a WebSocket (captured by RunPod); the status is not published.
            return Refusal(400, "not allowed for QB API").response()
        match request.path.split("/"):
            case ["", "v2", "serverless", endpoint_id] if "serverless" not in self.endpoints:
                return await self._management.endpoint(request, endpoint_id)
            case ["", "v2", *parts] if len(parts) > 1 and parts[1] in _WORKER_OPERATIONS:
                return await self._worker_api.handle(request, parts)
            case ["", "v2", "billing", "serverless"] if "billing" not in self.endpoints:
                return self._billing.handle(request)
            case ["", "v2", *parts]:
                return await self._api.handle(request, parts)
            case ["", "simulator", *parts]:
                return await self._control.handle(request, parts)
            case ["", ""]:
                return reply(self._about())
        return Refusal(404, "not found").response()

    def _about(self) -> dict[str, Any]:
        return {
            "what": "A simulated RunPod serverless API of ryla_tasks. No GPU, no cost, nothing real.",
            "api": f"{self.url}/v2",
            "control": f"{self.url}/simulator/endpoints",
            "endpoints": {one.config.endpoint_id: one.config.runs for one in self.endpoints.values()},
            "time_scale": self.config.time_scale,
            "simulated_seconds": round(self.clock.now(), 3),
        }
