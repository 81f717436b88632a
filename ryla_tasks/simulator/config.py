"""What a simulator is made of, as checked settings."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .faults import Fault
from .programme import FaultProgramme

__all__ = ["DEFAULT_KEY", "EndpointConfig", "ScalerType", "SimulatorConfig", "WorkerStart"]

DEFAULT_KEY = "simulated-key"


class ScalerType(StrEnum):
    """How an endpoint decides on its workers (RunPod docs, endpoint-configurations, "Auto-scaling type")."""

    QUEUE_DELAY = "QUEUE_DELAY"
    REQUEST_COUNT = "REQUEST_COUNT"


class WorkerStart(StrEnum):
    """What becomes of a GPU worker that the scaler asks for."""

    NORMAL = "normal"
    THROTTLED = "throttled"
    """The host has no capacity: it never starts, and counts as throttled."""
    UNHEALTHY = "unhealthy"
    """It crashes at its start: it counts as unhealthy, and its jobs stay in the queue."""


class EndpointConfig(BaseModel):
    """One endpoint. All durations are simulated seconds; defaults are RunPod's where it publishes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    program: str = "image"
    """What its GPU workers run: "image", "lora", "echo", or one handed to the simulator."""
    gpu: str = "NVIDIA GeForce RTX 4090"
    price_per_s: float = Field(0.00031, ge=0)

    joined: bool = False
    """No simulated workers: jobs wait for real processes that join it, each a worker on the `runpod` SDK. `program`,
    `workers_max` and the scaler mean nothing then, and a worker that had no job for `idle_timeout_s` costs nothing."""
    ping_interval_s: int = Field(10, ge=1)
    """Joined workers: how often they are told to ping, in real seconds; the SDK knows whole ones only."""
    lease_s: float = Field(40.0, gt=0)
    """Joined workers: real seconds without a ping after which a worker is lost, and with pings that do not name a job
    after which its worker does not have it. RunPod's number is not published; 42 s were captured."""

    volumes: tuple[str, ...] = ("volume",)
    """Its network volumes, as the management API shows them."""
    workers_min: int = Field(0, ge=0)
    workers_max: int = Field(3, ge=0)
    cold_start_s: float = Field(20.0, ge=0)
    flashboot_s: float | None = Field(None, ge=0)
    """If set, a worker that was scaled down stays at hand (idle and ready) and comes back in this time."""
    idle_timeout_s: float = Field(5.0, ge=0)
    scaler: ScalerType = ScalerType.QUEUE_DELAY
    queue_delay_s: float = Field(4.0, ge=0)
    request_count: int = Field(4, ge=1)
    worker_start: WorkerStart = WorkerStart.NORMAL
    redispatch_limit: int = Field(1, ge=0)
    """How often a job whose worker died goes back to the queue. RunPod's number is not published; one was seen."""

    missing_models: tuple[str, ...] = ()
    """Model files that its ComfyUI does not have: an image job that names one fails as with worker-comfyui."""
    missing_nodes: tuple[str, ...] = ()
    """Class types of nodes that its ComfyUI does not know."""

    run_s: float = Field(8.0, ge=0)
    steps: int = Field(20, ge=0)
    execution_timeout_s: float = Field(600.0, gt=0)
    ttl_s: float = Field(86_400.0, gt=0)
    ttl_keeps_queued: bool = False
    """RunPod's pages differ on a job whose ttl ends in the queue: True keeps it as TIMED_OUT, False deletes it."""
    retention_s: float = Field(1800.0, ge=0)
    sync_retention_s: float = Field(60.0, ge=0)
    output_limit_bytes: int = Field(20 * 1024 * 1024, ge=0)
    """A larger output never reaches the API: the job is COMPLETED without `output` (worker-comfyui #129, #167)."""

    rate_limits: bool = True
    requests_per_worker: int = Field(0, ge=0)
    """The published rate limit is max(base, running workers x this); the number itself is not published."""
    queue_limit: bool = False
    """429 for a queue over 50 and over 500 for each worker of the maximum: in RunPod's docs until September 2025."""
    bill_initializing: bool = False
    """Whether a cold start is billed: RunPod's docs say no, its captured bills say yes."""
    faults: tuple[Fault, ...] = ()

    @property
    def runs(self) -> str:
        """What its workers run, in a word."""
        return "joined" if self.joined else self.program

    @model_validator(mode="after")
    def _workers_in_order(self) -> Self:
        if self.workers_min > self.workers_max:
            raise ValueError(f"workers_min ({self.workers_min}) is above workers_max ({self.workers_max})")
        return self


class SimulatorConfig(BaseModel):
    """A whole simulator. Port 0 takes a free one; `keys` are the bearer keys that it accepts.

    The control API under /simulator has no key: do not bind a simulator to an address that others can reach.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65_535)
    keys: tuple[str, ...] = Field((DEFAULT_KEY,), min_length=1, repr=False)
    time_scale: float = Field(1.0, gt=0)
    seed: int = 0
    webhook_retries_s: tuple[float, ...] = (5.0, 15.0)
    """Waits before the second and third try of a webhook, as captured; RunPod's docs say 10 s."""
    endpoints: tuple[EndpointConfig, ...] = ()
    programme: FaultProgramme | None = None
    """Faults over time, beside those of each endpoint; it begins with the simulator, and anew with a reset."""

    @model_validator(mode="after")
    def _endpoints_differ(self) -> Self:
        ids = [endpoint.endpoint_id for endpoint in self.endpoints]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"endpoint {twice[0]!r} is given twice")
        return self
