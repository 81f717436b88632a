"""What jobs in flight hold: messages in the worker, memory in the worker and in Redis.

In plain Celery each job in flight is a message with a countdown, which the worker takes out of the queue and keeps in
its memory until its time. In ours the messages go with the targets, and jobs are records in Redis.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.fill import fill
from benchmarks.report import Measure, Part
from benchmarks.system import OURS, PLAIN, System

__all__ = ["measure_held"]

GAP_S = 30.0

#: How long after the last submit it is measured; within it ours has made polls, and kombu its bookkeeping.
SETTLE_S = 3.0

#: Jobs before the count begins: what a worker needs once (modules, threads, buffers) is no cost of a job.
WARM = 500

QUEUES = ("ryla.jobs", "ryla.polls", "ryla.maintenance", "plain")


@dataclass(frozen=True, slots=True)
class Held:
    messages: int
    worker_mb: float
    worker_kb_per_job: float
    redis_kb_per_job: float


def measure_held(system: System, *, quick: bool, jobs: int | None = None) -> list[Part]:
    """10,000 jobs in flight, 2,000 with `quick`, none of which ends meanwhile."""
    jobs = jobs or (2_000 if quick else 10_000)
    plain, ours = _held(system, PLAIN, jobs), _held(system, OURS, jobs)
    about = f"{jobs:,} jobs in flight besides {WARM} before them, each polled every {GAP_S:g} s"
    measures = (
        Measure("messages held (in queues and in the worker)", "count", ours.messages, plain.messages),
        Measure("memory of the worker process", "MB", ours.worker_mb, plain.worker_mb),
        Measure("memory of the worker process per job", "KB", ours.worker_kb_per_job, plain.worker_kb_per_job),
        Measure("memory of Redis per job", "KB", ours.redis_kb_per_job, plain.redis_kb_per_job),
    )
    return [Part("held", about, measures)]


def _held(system: System, app: str, jobs: int) -> Held:
    system.clear(jobs=WARM + jobs)
    worker = system.worker(app, gap_s=GAP_S)
    fill(system, app, WARM, gap_s=GAP_S)
    rss_mb, redis_bytes = worker.rss_mb, _used(system)
    fill(system, app, jobs, gap_s=GAP_S, before=WARM)
    time.sleep(SETTLE_S)
    held = Held(
        messages=_messages(system),
        worker_mb=worker.rss_mb,
        worker_kb_per_job=1000 * (worker.rss_mb - rss_mb) / jobs,
        redis_kb_per_job=(_used(system) - redis_bytes) / jobs / 1000,
    )
    system.stop_workers()
    return held


def _used(system: System) -> int:
    memory: dict[str, int] = system.client.info("memory")
    return memory["used_memory"]


def _messages(system: System) -> int:
    """Unacknowledged messages are in the worker's memory."""
    return int(system.client.hlen("unacked")) + sum(system.messages(queue) for queue in QUEUES)
