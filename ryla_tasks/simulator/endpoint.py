"""One simulated endpoint: its queue, its jobs and its scaler. No I/O, no clock, no timers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from random import Random

from .config import EndpointConfig, ScalerType
from .counters import Counters
from .fault_plan import FaultPlan
from .fleet import Fleet, GpuWorker
from .job_faults import ExpireResult, LateProgress
from .jobs import JobStatus, Report, SimJob
from .joined import JoinedWorkers
from .programs.base import End, Program, plan_execution
from .schedule import Schedule

__all__ = ["Endpoint"]


class Endpoint:
    """Whoever calls a method passes the time, and calls `advance` first.

    Everything that happens between two calls is worked out then, each event at its own time, so ten thousand jobs
    in flight cost nothing while nobody asks. `on_change` hears of each job that started or ended, `on_queued` that
    there is one more in the queue. `time_scale` matters to joined workers, which live in real time.
    """

    def __init__(self, config: EndpointConfig, program: Program, random: Random, *, time_scale: float = 1.0) -> None:
        self.config = config
        self.program = program
        self.counters = Counters()
        self.jobs: dict[str, SimJob] = {}
        self.on_change: Callable[[SimJob], None] = lambda _: None
        self.schedule = Schedule()
        self.faults = FaultPlan(Random(random.getrandbits(64)))
        self.fleet = Fleet(config, self.schedule, random, lambda now: self.faults.start(now))
        self.on_queued: Callable[[], None] = lambda: None
        self.joined = JoinedWorkers(self, time_scale) if config.joined else None
        self._queue: OrderedDict[str, SimJob] = OrderedDict()
        self._workers: dict[str, GpuWorker] = {}  # by the job that each runs
        self._overdue = 0
        self._scaling_queued = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    def open(self, now: float) -> None:
        """Start the workers that are always on."""
        self._settle(now)

    def advance(self, now: float) -> None:
        """Let everything happen that was due by now."""
        if not self.schedule.due(now):
            return
        while (event := self.schedule.pop_due(now)) is not None:
            time, action, subject = event
            action(subject, time)
            self._settle(time)

    def submit(self, job: SimJob, now: float) -> None:
        """Take a job into the queue."""
        self.jobs[job.id] = job
        self.counters.accept(job.correlation_id)
        self._enqueue(job, now)
        self._settle(now)

    def cancel(self, job: SimJob, now: float) -> None:
        """End a live job; nothing happens to one that has ended."""
        if job.live:
            self.counters.cancels += 1
            self._end(job, JobStatus.CANCELLED, now)
            self._settle(now)

    def retry(self, job: SimJob, now: float) -> None:
        """Run an ended job again under the same id: its old output is dropped (RunPod docs, /retry)."""
        job.submitted_at = now
        job.error, job.ended_at, job.retries = None, None, 0
        self._enqueue(job, now)
        self._settle(now)

    def purge(self, now: float) -> int:
        """Remove what is queued; what runs goes on. What becomes of the removed is not published: CANCELLED here."""
        removed = [*self._queue.values()]
        for job in removed:
            self._end(job, JobStatus.CANCELLED, now)
        self._settle(now)
        return len(removed)

    def reconfigure(self, config: EndpointConfig, program: Program, now: float) -> None:
        """Take new settings; jobs that already run keep to the old ones."""
        self.config = config
        self.program = program
        self.fleet.reconfigure(config, now)
        self._settle(now)

    def health(self) -> dict[str, dict[str, int]]:
        """The answer to /health, in the shape captured live."""
        counters = self.counters
        return {
            "jobs": {
                "completed": counters.ended[JobStatus.COMPLETED],
                "failed": counters.ended[JobStatus.FAILED] + counters.ended[JobStatus.TIMED_OUT],
                "inProgress": len(self._workers),
                "inQueue": len(self._queue),
                "retried": counters.redispatches,
            },
            "workers": self.fleet.counts(),
        }

    def _settle(self, now: float) -> None:
        """Give jobs to idle workers, then ask for workers. Those that have joined ask themselves."""
        if self.joined is not None:
            return
        while self._queue and (worker := self.fleet.take(now)) is not None:
            self._start(self._queue[next(iter(self._queue))], worker, now)
        missing = min(self._wanted(), self.config.workers_max) - self.fleet.alive
        if missing > 0:
            self.fleet.start(missing, now)

    def _wanted(self) -> int:
        """How many workers there should be.

        RunPod docs, endpoint-configurations: QUEUE_DELAY adds one for the first request, then for requests that have
        waited so long; REQUEST_COUNT is ceil((in queue + in progress) / value). Low priority jobs do not count.
        """
        if self.config.scaler is ScalerType.REQUEST_COUNT:
            wanted = ceil((self._scaling_queued + len(self._workers)) / self.config.request_count)
        else:
            wanted = max(len(self._workers) + self._overdue, min(self._scaling_queued, 1))
        return max(wanted, self.config.workers_min)

    def _enqueue(self, job: SimJob, now: float, *, first: bool = False) -> None:
        job.status = JobStatus.IN_QUEUE
        job.generation += 1
        job.queued_at, job.started_at, job.delay_ms, job.worker_id = now, None, None, None
        job.execution, job.report, job.chunks_read = None, None, 0
        self._queue[job.id] = job
        if first:
            self._queue.move_to_end(job.id, last=False)
        self.schedule.at(job.dies_at, self._ttl_over, job)
        if not job.low_priority:
            self._scaling_queued += 1
            if self.config.scaler is ScalerType.QUEUE_DELAY:
                self.schedule.at(now + self.config.queue_delay_s, self._waited, job)
        self.on_queued()

    def _dequeue(self, job: SimJob) -> None:
        del self._queue[job.id]
        if not job.low_priority:
            self._scaling_queued -= 1
        if job.overdue:
            job.overdue = False
            self._overdue -= 1

    def _waited(self, job: SimJob, _: float) -> None:
        job.overdue = True
        self._overdue += 1

    def give_to_joined(self, worker: GpuWorker, now: float) -> SimJob | None:
        """Hand the first queued job to a joined worker."""
        if not self._queue:
            return None
        job = self._queue[next(iter(self._queue))]
        self._start(job, worker, now)
        return job

    def finish_joined(self, job: SimJob, status: JobStatus, now: float, *, error: str | None = None) -> None:
        """A joined worker is done with its job."""
        job.error = error
        self._end(job, status, now)

    def redispatch(self, job: SimJob, now: float) -> None:
        """Its worker is gone: the platform gives the job to another, up to a limit.

        Captured live: `retries` 1, the delay time starting anew, and in the end "job timed out after 1 retries".
        """
        self._workers.pop(job.id, None)
        if job.retries >= self.config.redispatch_limit:
            job.error = f"job timed out after {job.retries} retries"
            self._end(job, JobStatus.FAILED, now)
            return
        job.retries += 1
        self.counters.redispatches += 1
        self._enqueue(job, now, first=True)

    def _start(self, job: SimJob, worker: GpuWorker, now: float) -> None:
        self._dequeue(job)
        self._workers[job.id] = worker
        self.counters.start(job.correlation_id)
        job.status = JobStatus.IN_PROGRESS
        job.generation += 1
        job.started_at, job.worker_id = now, worker.id
        job.delay_ms = round((now - job.queued_at) * 1000)
        endings: list[tuple[float, Callable[[SimJob, float], None]]] = [
            (now + job.execution_timeout_s, self._timeout),
            (job.dies_at, self._ttl_over),
        ]
        if self.joined is not None:
            job.report = Report()
        else:
            planned = plan_execution(self.program, job.input, self.config, earlier_runs=job.runs)
            job.execution = planned.struck_by(self.faults.run(job.id, now))
            endings.insert(0, (now + job.execution.end_after_s, self._finish))
        job.runs += 1
        time, action = min(endings, key=lambda ending: ending[0])
        self.schedule.at(time, action, job)
        self.on_change(job)

    def _finish(self, job: SimJob, now: float) -> None:
        execution = job.execution
        if execution is None:  # only a running job has this event
            return
        if execution.end is End.CRASH:
            self.fleet.lose(self._workers[job.id], now)
            self.redispatch(job, now)
        elif execution.end is End.FAILED:
            job.error = execution.error
            self._end(job, JobStatus.FAILED, now)
        else:
            self._end(job, JobStatus.COMPLETED, now)

    def _timeout(self, job: SimJob, now: float) -> None:
        job.error = "executionTimeout exceeded"  # RunPod's own words are not published
        self._end(job, JobStatus.TIMED_OUT, now)

    def _ttl_over(self, job: SimJob, now: float) -> None:
        """RunPod docs, send-requests: at the end of its ttl a job is deleted even if it runs; /status is then 404."""
        keep = self.config.ttl_keeps_queued and job.status is JobStatus.IN_QUEUE
        self._end(job, JobStatus.TIMED_OUT, now)
        if not keep:
            self._forget(job, now)

    def _end(self, job: SimJob, status: JobStatus, now: float) -> None:
        if job.status is JobStatus.IN_QUEUE:
            self._dequeue(job)
        elif (worker := self._workers.pop(job.id, None)) is not None:
            if self.joined is not None:
                self.joined.ended(worker.id, job.id)
            else:
                self.fleet.release(worker, now)
        job.status = status
        job.generation += 1
        job.ended_at = now
        self.counters.ended[status] += 1
        retention = self.config.sync_retention_s if job.sync else self.config.retention_s
        self.schedule.at(now + retention, self._forget, job)
        self._spoil(job, now)
        self.on_change(job)

    def revive(self, job: SimJob, _: float) -> None:
        """A late progress undoes the end (runpod-python #250). Nothing ends the job anew; its retention goes on."""
        job.status = JobStatus.IN_PROGRESS

    def _spoil(self, job: SimJob, now: float) -> None:
        job.spoiled = None
        success = job.status is JobStatus.COMPLETED
        for fault in self.faults.end(job.id, now, success=success, joined=self.joined is not None):
            match fault:
                case ExpireResult():
                    self.schedule.at(now + fault.after_s, self._forget, job)
                case LateProgress():
                    self.schedule.at(now + fault.after_s, self.revive, job)
                case _:
                    job.spoiled = fault

    def _forget(self, job: SimJob, _: float) -> None:
        job.generation += 1
        self.jobs.pop(job.id, None)
