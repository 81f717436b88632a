"""The GPU workers of one simulated endpoint."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from math import ceil
from random import Random

from .config import EndpointConfig, WorkerStart
from .job_faults import FailStart
from .schedule import Schedule

__all__ = ["Fleet", "GpuWorker", "WorkerState"]


class WorkerState(StrEnum):
    """RunPod docs, serverless/workers/overview. STANDBY is scaled down with the container at hand (FlashBoot)."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    RUNNING = "running"
    STANDBY = "standby"
    THROTTLED = "throttled"
    UNHEALTHY = "unhealthy"
    GONE = "gone"


_BILLED = frozenset({WorkerState.IDLE, WorkerState.RUNNING})


@dataclass(slots=True, eq=False)
class GpuWorker:
    """One container. `billed_from` is when the meter started, None while it does not run."""

    id: str
    state: WorkerState
    generation: int = 0
    billed_from: float | None = None


class Fleet:
    """Starts workers, hands them out, lets them idle and stops them; counts them and what they cost.

    `config` may be replaced while it runs.
    """

    def __init__(
        self,
        config: EndpointConfig,
        schedule: Schedule,
        random: Random,
        fault: Callable[[float], FailStart | None] = lambda _: None,
    ) -> None:
        self.config = config
        self._schedule = schedule
        self._random = random
        self._fault = fault
        self._workers: dict[str, GpuWorker] = {}
        self._idle: OrderedDict[str, GpuWorker] = OrderedDict()
        self._standby: OrderedDict[str, GpuWorker] = OrderedDict()
        self._counts = dict.fromkeys(WorkerState, 0)
        self._billed_s = 0
        self._billed: list[tuple[float, float, int]] = []

    @property
    def alive(self) -> int:
        """Workers that take up a place under `workers_max`: a crashed or throttled one does too."""
        return len(self._workers) - self._counts[WorkerState.STANDBY]

    @property
    def running(self) -> int:
        return self._counts[WorkerState.RUNNING]

    def counts(self) -> dict[str, int]:
        """As in /health. They overlap, as captured live: an idle worker is also a ready one."""
        idle = self._counts[WorkerState.IDLE] + self._counts[WorkerState.STANDBY]
        return {
            "idle": idle,
            "initializing": self._counts[WorkerState.INITIALIZING],
            "ready": idle,
            "running": self._counts[WorkerState.RUNNING],
            "throttled": self._counts[WorkerState.THROTTLED],
            "unhealthy": self._counts[WorkerState.UNHEALTHY],
        }

    def billed_seconds(self, now: float) -> float:
        """Start to stop of every worker, each rounded up, idle time-out included (RunPod docs, pricing)."""
        live = (worker.billed_from for worker in self._workers.values() if worker.billed_from is not None)
        return self._billed_s + sum(now - start for start in live)

    def bills(self, now: float) -> list[tuple[float, float, float]]:
        """What `billed_seconds` is the sum of: from when to when, and how many seconds are billed for it."""
        live = [(one.billed_from, now) for one in self._workers.values() if one.billed_from is not None]
        return [*self._billed, *((begins, ends, ends - begins) for begins, ends in live)]

    def start(self, how_many: int, now: float) -> None:
        """Ask for so many more workers; those that were scaled down but kept come back first."""
        for _ in range(how_many):
            if self._standby:
                _, worker = self._standby.popitem()
                warm = self.config.flashboot_s
                seconds = self.config.cold_start_s if warm is None else warm
            else:
                worker = GpuWorker(f"{self._random.getrandbits(56):014x}", WorkerState.GONE)
                self._workers[worker.id] = worker
                seconds = self.config.cold_start_s
            self._boot(worker, seconds, now)

    def take(self, now: float) -> GpuWorker | None:
        """An idle worker, now running; the one that fell idle last, so that the others may scale down."""
        if not self._idle:
            return None
        worker = self._idle[next(reversed(self._idle))]
        self._become(worker, WorkerState.RUNNING, now)
        return worker

    def join(self, worker_id: str, now: float) -> GpuWorker:
        """A real process came by itself: it is here, without a cold start."""
        worker = GpuWorker(worker_id, WorkerState.GONE)
        self._workers[worker_id] = worker
        self.release(worker, now)
        return worker

    def occupy(self, worker: GpuWorker, now: float) -> None:
        """A joined worker takes a job; it may have others."""
        if worker.state is not WorkerState.RUNNING:
            self._become(worker, WorkerState.RUNNING, now)

    def refresh(self, worker: GpuWorker, now: float) -> None:
        """A joined worker asked to be started anew: no jobs for the length of a cold start."""
        self._become(worker, WorkerState.INITIALIZING, now)
        self._schedule.at(now + self.config.cold_start_s, self._ready, worker)

    def sicken(self, worker: GpuWorker, now: float) -> None:
        """A joined worker said that it is not fit to work."""
        self._become(worker, WorkerState.UNHEALTHY, now)

    def release(self, worker: GpuWorker, now: float) -> None:
        """Its job is over. It waits for another until its idle time-out."""
        if self.alive > self.config.workers_max and not self.config.joined:
            self._become(worker, WorkerState.GONE, now)
            return
        self._become(worker, WorkerState.IDLE, now)
        self._schedule.at(now + self.config.idle_timeout_s, self._idle_over, worker)

    def lose(self, worker: GpuWorker, now: float) -> None:
        """The container died."""
        self._become(worker, WorkerState.GONE, now)

    def reconfigure(self, config: EndpointConfig, now: float) -> None:
        """Take new settings: workers beyond a lower maximum go as soon as they have no job."""
        self.config = config
        if config.joined:
            return
        for worker in [*self._workers.values()]:
            held_back = worker.state in (WorkerState.THROTTLED, WorkerState.UNHEALTHY)
            surplus = worker.state in (WorkerState.IDLE, WorkerState.INITIALIZING, WorkerState.STANDBY)
            if (held_back and config.worker_start is WorkerStart.NORMAL) or (
                surplus and self.alive > config.workers_max
            ):
                self._become(worker, WorkerState.GONE, now)
            elif worker.state is WorkerState.IDLE:
                self.release(worker, now)

    def _boot(self, worker: GpuWorker, seconds: float, now: float) -> None:
        fault = self._fault(now)
        start = self.config.worker_start if fault is None else WorkerStart(fault.state)
        if start is WorkerStart.THROTTLED:
            self._become(worker, WorkerState.THROTTLED, now)
            if fault is not None:
                self._schedule.at(now + fault.retry_s, self.lose, worker)
            return
        self._become(worker, WorkerState.INITIALIZING, now)
        action: Callable[[GpuWorker, float], None] = self._ready
        if start is WorkerStart.UNHEALTHY:
            action = self._crashed_at_start if fault is None else partial(self._crash_loops, fault.retry_s)
        self._schedule.at(now + seconds, action, worker)

    def _ready(self, worker: GpuWorker, now: float) -> None:
        self.release(worker, now)

    def _crashed_at_start(self, worker: GpuWorker, now: float) -> None:
        self._become(worker, WorkerState.UNHEALTHY, now)

    def _crash_loops(self, retry_s: float, worker: GpuWorker, now: float) -> None:
        self._become(worker, WorkerState.UNHEALTHY, now)
        self._schedule.at(now + retry_s, self.lose, worker)

    def _idle_over(self, worker: GpuWorker, now: float) -> None:
        if self.alive <= self.config.workers_min:
            return  # an active worker: it stays, until its next job or a lower minimum sets its time-out anew
        kept = self.config.flashboot_s is not None or self.config.joined  # a process that joined does not go away
        self._become(worker, WorkerState.STANDBY if kept else WorkerState.GONE, now)

    def _become(self, worker: GpuWorker, state: WorkerState, now: float) -> None:
        if worker.state is not WorkerState.GONE:
            self._counts[worker.state] -= 1
        worker.state = state
        worker.generation += 1
        self._idle.pop(worker.id, None)
        self._standby.pop(worker.id, None)
        if state is WorkerState.GONE:
            self._workers.pop(worker.id, None)
        else:
            self._counts[state] += 1
        if state is WorkerState.IDLE:
            self._idle[worker.id] = worker
        elif state is WorkerState.STANDBY:
            self._standby[worker.id] = worker
        self._meter(worker, now)

    def _meter(self, worker: GpuWorker, now: float) -> None:
        billed = worker.state in _BILLED or (self.config.bill_initializing and worker.state is WorkerState.INITIALIZING)
        if billed and worker.billed_from is None:
            worker.billed_from = now
        elif not billed and worker.billed_from is not None:
            seconds = ceil(now - worker.billed_from)
            self._billed_s += seconds
            self._billed.append((worker.billed_from, now, seconds))
            worker.billed_from = None
