"""Real worker processes at a simulated endpoint: what each holds, and when it is given up. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .fleet import GpuWorker, WorkerState
from .jobs import JobStatus, SimJob

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["JoinedWorker", "JoinedWorkers"]

_STOP_AGAIN_S = 1.0
"""Real seconds until a worker that goes on with a stopped job is told again: an answer may be lost, and the SDK drops a
stop that comes in the tenth of a second between its taking a job and starting it."""


@dataclass(slots=True, eq=False)
class JoinedWorker:
    """One process. Times are simulated seconds.

    `jobs` says when each of its jobs was last heard of; `stopping` are jobs that have ended here while it may still
    work on them, each with the time when it was last told so.
    """

    id: str
    slot: GpuWorker
    seen_at: float
    generation: int = 0
    jobs: dict[str, float] = field(default_factory=dict)
    stopping: dict[str, float | None] = field(default_factory=dict)
    hung_up_at: float | None = None
    """When its main process broke off a call, if it has not called since. The SDK pings from a process of its own,
    which goes on when the main process is killed."""
    asked_for_stop: int = 0
    """How often it has asked to be started anew (`stopPod`)."""


class JoinedWorkers:
    """Leases over what joined workers hold.

    Every call of a worker makes it known; a worker without a ping for a lease is lost, and so is a job that its
    worker's pings do not name for as long: its answer to job-take never arrived, or could not be read.
    """

    def __init__(self, endpoint: Endpoint, time_scale: float) -> None:
        self._endpoint = endpoint
        self._scale = time_scale
        self._workers: dict[str, JoinedWorker] = {}
        self._orphans: set[str] = set()

    @property
    def workers(self) -> Collection[JoinedWorker]:
        return self._workers.values()

    def seen(self, worker_id: str, now: float, *, by_ping: bool = False) -> JoinedWorker:
        """A worker has called: it joins, or its lease starts anew."""
        worker = self._workers.get(worker_id)
        if worker is None:
            worker = JoinedWorker(worker_id, self._endpoint.fleet.join(worker_id, now), now)
            self._workers[worker_id] = worker
            self._endpoint.schedule.at(now + self._lease_s, self._watch, worker)
        worker.seen_at = now
        if not by_ping:
            worker.hung_up_at = None
            self._orphans.discard(worker_id)
        return worker

    def has(self, worker: JoinedWorker) -> bool:
        """Whether a worker is still here; one that was lost joins anew with its next call."""
        return self._workers.get(worker.id) is worker

    def ping(self, worker_id: str, job_ids: Collection[str], now: float) -> None:
        """A worker says that it lives, and what it works on."""
        if worker_id in self._orphans:
            return  # the ping process of a worker that was killed
        worker = self.seen(worker_id, now, by_ping=True)
        for job_id in job_ids:
            if job_id in worker.jobs:
                worker.jobs[job_id] = now
            else:
                worker.stopping.setdefault(job_id, None)
        for job_id in [*worker.stopping]:
            if job_id not in job_ids:
                del worker.stopping[job_id]
        self._settle(worker, now)

    def unfit(self, worker_id: str, now: float) -> None:
        """Its checks at the start have failed; the process ends itself, and is unhealthy until its lease is over."""
        worker = self.seen(worker_id, now, by_ping=True)
        self._endpoint.fleet.sicken(worker.slot, now)

    def idle(self, worker: JoinedWorker, now: float) -> None:
        """A worker that asks for a job says that it works on none."""
        worker.stopping.clear()
        self._settle(worker, now)

    def take(self, worker: JoinedWorker, most: int, now: float) -> list[SimJob]:
        """Up to so many queued jobs, now this worker's."""
        taken: list[SimJob] = []
        if worker.slot.state in (WorkerState.INITIALIZING, WorkerState.UNHEALTHY):
            return taken
        while len(taken) < most and (job := self._endpoint.give_to_joined(worker.slot, now)) is not None:
            worker.jobs[job.id] = now
            worker.stopping.pop(job.id, None)
            taken.append(job)
        self._settle(worker, now)
        return taken

    def owns(self, worker_id: str, job_id: str, now: float) -> bool:
        """Whether the job is this worker's; hearing of it renews its lease."""
        worker = self.seen(worker_id, now)
        if job_id not in worker.jobs:
            return False
        worker.jobs[job_id] = now
        return True

    def progress(self, job: SimJob, progress: Any) -> None:
        """The worker has reported how far it is."""
        if job.report is not None:
            job.report.progress = progress

    def chunk(self, job: SimJob, chunk: Any) -> None:
        """The worker has sent one more chunk for /stream."""
        if job.report is not None:
            job.report.chunks.append(chunk)
            self._endpoint.on_change(job)

    def done(
        self, worker_id: str, job: SimJob, now: float, *, output: bytes | None = None, error: str | None = None
    ) -> None:
        """The worker has ended the job, FAILED where it says an error."""
        self.let_go(worker_id, job.id, now)
        if job.report is not None:
            job.report.output = output
        self._endpoint.finish_joined(job, JobStatus.COMPLETED if error is None else JobStatus.FAILED, now, error=error)

    def let_go(self, worker_id: str, job_id: str, now: float) -> None:
        """The worker no longer works on the job, whoever owns it."""
        worker = self.seen(worker_id, now)
        worker.jobs.pop(job_id, None)
        worker.stopping.pop(job_id, None)
        self._settle(worker, now)

    def refresh(self, worker_id: str, now: float) -> None:
        """The worker asks to be started anew. What it holds besides goes to others."""
        worker = self.seen(worker_id, now)
        worker.asked_for_stop += 1
        jobs, worker.jobs = [*worker.jobs], {}
        worker.stopping.clear()
        self._endpoint.fleet.refresh(worker.slot, now)
        self._redispatch(jobs, now)

    def ended(self, worker_id: str, job_id: str) -> None:
        """A job was cancelled, or its time is over: its worker is to stop it."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.jobs.pop(job_id, None) is not None:
            worker.stopping[job_id] = None

    def stops(self, worker: JoinedWorker, now: float) -> list[str]:
        """The jobs that a worker is to stop and has not just been told of."""
        again = now - _STOP_AGAIN_S * self._scale
        told = [job_id for job_id, at in worker.stopping.items() if at is None or at <= again]
        worker.stopping.update(dict.fromkeys(told, now))
        return told

    @property
    def _lease_s(self) -> float:
        return self._endpoint.config.lease_s * self._scale

    def _settle(self, worker: JoinedWorker, now: float) -> None:
        """A worker that goes on with a stopped job is still busy, and paid for."""
        busy = bool(worker.jobs or worker.stopping)
        if busy and worker.slot.state in (WorkerState.IDLE, WorkerState.STANDBY):
            self._endpoint.fleet.occupy(worker.slot, now)
        elif not busy and worker.slot.state is WorkerState.RUNNING:
            self._endpoint.fleet.release(worker.slot, now)

    def _watch(self, worker: JoinedWorker, now: float) -> None:
        lease = self._lease_s
        alive_until = min(worker.seen_at, now if worker.hung_up_at is None else worker.hung_up_at) + lease
        if alive_until <= now:
            self._lose(worker, now)
            return
        missed = [job_id for job_id, heard_at in worker.jobs.items() if heard_at + lease <= now]
        for job_id in missed:
            del worker.jobs[job_id]
        self._settle(worker, now)
        self._redispatch(missed, now)
        following = min([alive_until, *(heard_at + lease for heard_at in worker.jobs.values())])
        self._endpoint.schedule.at(following, self._watch, worker)

    def _lose(self, worker: JoinedWorker, now: float) -> None:
        del self._workers[worker.id]
        if worker.hung_up_at is not None:
            self._orphans.add(worker.id)
        self._endpoint.fleet.lose(worker.slot, now)
        self._redispatch(worker.jobs, now)

    def _redispatch(self, job_ids: Collection[str], now: float) -> None:
        for job_id in [*job_ids]:
            job = self._endpoint.jobs.get(job_id)
            if job is not None:
                self._endpoint.redispatch(job, now)
