"""A client for the control API of a simulator, in this process or another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from pydantic import TypeAdapter

from ..errors import NotConnected, RequestRejected
from .config import DEFAULT_KEY, EndpointConfig
from .counters import CounterSnapshot
from .faults import AnyFault, FaultView
from .joining import worker_environment
from .programme import FaultProgramme
from .views import EndpointView, JobView, WorkerView

__all__ = ["EndpointClient", "SimulatorClient"]

_ENDPOINTS = TypeAdapter(list[EndpointView])
_FAULTS = TypeAdapter(list[FaultView])
_JOBS = TypeAdapter(list[JobView])
_WORKERS = TypeAdapter(list[WorkerView])


class SimulatorClient:
    """Sets up and looks into a simulator. Safe for use by many threads.

    Its calls raise `NotConnected` where nobody listens and `RequestRejected`, with the reason, for what the simulator
    refuses (an unknown endpoint, a setting out of range).
    """

    def __init__(self, url: str, timeout_s: float = 10.0, key: str = DEFAULT_KEY) -> None:
        self.url = url.rstrip("/")
        self.key = key
        self._timeout_s = timeout_s

    @property
    def base_url(self) -> str:
        """What to set as RunPod's base address (`RUNPOD_ENDPOINT_BASE_URL` for the runpod SDK)."""
        return f"{self.url}/v2"

    def about(self) -> dict[str, Any]:
        """What `GET /` says."""
        about: dict[str, Any] = self.call("GET", "/").json()
        return about

    def endpoint(self, endpoint_id: str) -> EndpointClient:
        """A face for one endpoint; nothing is asked yet."""
        return EndpointClient(self, endpoint_id)

    def endpoints(self) -> list[EndpointView]:
        return _ENDPOINTS.validate_json(self.call("GET", "/simulator/endpoints").content)

    def add_endpoint(self, config: EndpointConfig) -> EndpointClient:
        """Open one more endpoint."""
        self.call("POST", "/simulator/endpoints", config.model_dump(mode="json"))
        return self.endpoint(config.endpoint_id)

    def worker_env(self, endpoint_id: str, worker_id: str) -> dict[str, str]:
        """The environment that lets an unmodified worker on the `runpod` SDK join an endpoint (`joined`).

            subprocess.Popen([sys.executable, "handler.py"], env={**os.environ, **sim.worker_env("ep", "gpu-1")})

        The SDK pings from a process of its own: start the worker in a session of its own and end the whole group.
        """
        return worker_environment(self.base_url, self.endpoint(endpoint_id).view().config, worker_id, self.key)

    def reset(self) -> None:
        """Forget all jobs and counters; endpoints keep their settings."""
        self.call("POST", "/simulator/reset")

    def follow(self, programme: FaultProgramme) -> None:
        """Let a fault programme begin now, at all endpoints, in place of the faults that are set."""
        self.call("POST", "/simulator/programme", programme.model_dump(mode="json"))

    def call(self, method: str, path: str, data: Mapping[str, Any] | None = None) -> requests.Response:
        """One call of the control API."""
        try:
            answer = requests.request(method, self.url + path, json=data, timeout=self._timeout_s)
        except requests.ConnectionError as error:
            raise NotConnected(f"no simulator answers at {self.url}") from error
        if not answer.ok:
            try:
                reason = str(answer.json()["error"])
            except (ValueError, KeyError, TypeError):
                reason = answer.text[:500]
            raise RequestRejected(f"the simulator refused: {reason}", http_status=answer.status_code, body=reason)
        return answer


class EndpointClient:
    """One endpoint of a simulator."""

    def __init__(self, simulator: SimulatorClient, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        self._simulator = simulator
        self._path = f"/simulator/endpoints/{endpoint_id}"

    def view(self) -> EndpointView:
        """Settings, and the numbers of /health."""
        return EndpointView.model_validate_json(self._simulator.call("GET", self._path).content)

    def update(self, **changes: Any) -> EndpointView:
        """Change settings (`EndpointConfig` names them) while it runs; running jobs keep the old ones."""
        return EndpointView.model_validate_json(self._simulator.call("PATCH", self._path, changes).content)

    def remove(self) -> None:
        """Delete it: it answers 404."""
        self._simulator.call("DELETE", self._path)

    def counters(self) -> CounterSnapshot:
        return CounterSnapshot.model_validate_json(self._simulator.call("GET", f"{self._path}/counters").content)

    def jobs(self) -> list[JobView]:
        """All jobs that it still knows, in the order of submission."""
        return _JOBS.validate_json(self._simulator.call("GET", f"{self._path}/jobs").content)

    def job(self, remote_id: str) -> JobView:
        """One job, with its input."""
        return JobView.model_validate_json(self._simulator.call("GET", f"{self._path}/jobs/{remote_id}").content)

    def workers(self) -> list[WorkerView]:
        """The real processes that have joined it."""
        return _WORKERS.validate_json(self._simulator.call("GET", f"{self._path}/workers").content)

    def faults(self) -> list[FaultView]:
        return _FAULTS.validate_json(self._simulator.call("GET", f"{self._path}/faults").content)

    def add_fault(self, fault: AnyFault) -> int:
        """Make something go wrong; returns the fault's number. Faults act in the order in which they were added."""
        answer = self._simulator.call("POST", f"{self._path}/faults", fault.model_dump(mode="json"))
        return int(answer.json()["number"])

    def clear_faults(self) -> None:
        self._simulator.call("DELETE", f"{self._path}/faults")

    @contextmanager
    def fault(self, fault: AnyFault) -> Iterator[int]:
        """A fault for the length of a block; at its end all faults of the endpoint are gone."""
        number = self.add_fault(fault)
        try:
            yield number
        finally:
            self.clear_faults()
