"""An endpoint as the server holds it: with its limits, its faults, and those who wait for its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random

from ..errors import ConfigurationError
from .bell import Bell
from .clock import Clock
from .config import EndpointConfig
from .counters import CounterSnapshot
from .endpoint import Endpoint
from .fault_plan import FaultPlan
from .jobs import SimJob
from .limits import RateLimiter
from .operations import Operation
from .outputs import OutputShelf
from .programme import FaultProgramme
from .programs import Program
from .webhooks import WebhookSender

__all__ = ["HostedEndpoint"]

_TICK_S = 0.001


class HostedEndpoint:
    """Ties the pure `Endpoint` to the clock and the event loop."""

    def __init__(
        self,
        config: EndpointConfig,
        *,
        seed: int,
        clock: Clock,
        programs: Mapping[str, Program],
        shelf: OutputShelf,
        webhooks: WebhookSender,
        programme: FaultProgramme | None = None,
    ) -> None:
        self._clock = clock
        self._programs = programs
        self._shelf = shelf
        self._webhooks = webhooks
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self.core = Endpoint(
            config,
            self._program(config),
            Random(f"{seed}:{config.endpoint_id}:workers"),
            time_scale=clock.time_scale,
        )
        self.bell = Bell()
        self.core.on_change = self._changed
        self.core.on_queued = self.bell.ring
        self.core.schedule.on_earlier = self._arm
        self._timer: asyncio.TimerHandle | None = None
        self.limiter = RateLimiter()
        self.faults = FaultPlan(Random(f"{seed}:{config.endpoint_id}:faults"))
        self.core.faults = self.faults
        for fault in config.faults:
            self.faults.add(fault)
        if programme is not None:
            self.follow(programme)
        self.core.open(clock.now())

    @property
    def config(self) -> EndpointConfig:
        return self.core.config

    def advance(self) -> float:
        """Bring the endpoint up to now; returns now."""
        now = self._clock.now()
        self.core.advance(now)
        return now

    def admit(self, op: Operation, now: float) -> bool:
        """Whether a call may come in under the rate limits; what came in must `leave`."""
        if not self.config.rate_limits:
            return True
        return self.limiter.enter(op, now, self.core.fleet.running * self.config.requests_per_worker)

    def leave(self, op: Operation) -> None:
        if self.config.rate_limits:
            self.limiter.leave(op)

    def find(self, job_id: str) -> SimJob | None:
        return self.core.jobs.get(job_id)

    async def output(self, job: SimJob) -> bytes | None:
        """The JSON of an ended job's output, None if it has none."""
        if job.report is not None:
            output = job.report.output
        else:
            output = await self._shelf.read(job, self.config.output_limit_bytes)
        return output if output is None or job.spoiled is None else job.spoiled.spoil(output)

    async def changed(self, job: SimJob, seconds: float) -> None:
        """Wait until the job starts or ends, at most so many simulated seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(job.id, [])
        waiting.append(future)
        try:
            async with asyncio.timeout(self._clock.real(seconds)):
                await future
        except TimeoutError:
            pass
        finally:
            waiting.remove(future)
            if not waiting:
                self._waiting.pop(job.id, None)

    def reconfigure(self, config: EndpointConfig) -> None:
        """Take new settings but for the faults, which have calls of their own."""
        if config.joined != self.config.joined:
            raise ConfigurationError("an endpoint is joined, or not, for as long as it is open", "joined")
        self.core.reconfigure(config, self._program(config), self.advance())

    def counters(self) -> CounterSnapshot:
        now = self.advance()
        billed = self.core.fleet.billed_seconds(now)
        return self.core.counters.snapshot(billed, self.config.price_per_s, self.faults.struck)

    def follow(self, programme: FaultProgramme) -> None:
        """Let the phases of a programme that are for this endpoint begin to count now."""
        now = self._clock.now()
        if programme.seed is not None:
            self.faults.random = Random(f"{programme.seed}:{self.config.endpoint_id}:faults")
        for phase in programme.phases_of(self.config.endpoint_id):
            to_s = None if phase.to_s is None else now + phase.to_s
            for fault in phase.faults:
                self.faults.add(fault, now + phase.from_s, to_s)

    def close(self) -> None:
        """Let nothing more happen by itself."""
        self.core.schedule.on_earlier = lambda _: None
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        # One timer an endpoint, for the next event of all its jobs and workers.
        if self._timer is not None:
            self._timer.cancel()
        delay = max(self._clock.real(at - self._clock.now()), _TICK_S)
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.advance()
        next_at = self.core.schedule.next_at
        if next_at is not None:
            self._arm(next_at)

    def _program(self, config: EndpointConfig) -> Program:
        program = self._programs.get(config.program)
        if program is None:
            known = ", ".join(sorted(self._programs))
            raise ConfigurationError(
                f"endpoint {config.endpoint_id!r}: there is no program {config.program!r}; known: {known}", "program"
            )
        return program

    def _changed(self, job: SimJob) -> None:
        for future in self._waiting.get(job.id, ()):
            if not future.done():
                future.set_result(None)
        if not job.live:
            self.bell.ring()
        if job.webhook is not None and not job.live:
            self._webhooks.send(self, job, job.webhook)
