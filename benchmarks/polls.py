"""Status polls per CPU-second of a worker process, and Redis commands per poll.

A number of jobs that do not end are in flight at the simulator, each to be polled each three seconds, and each answer
brings a new percentage, so that each poll has progress to tell. What counts is the worker's CPU time, from the message
to the settled poll: HTTP call, Celery events, limiter and fences included. The simulator counts the polls.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.fill import fill
from benchmarks.monitor import CommandCount
from benchmarks.report import Mark, Measure, Part, median
from benchmarks.system import OURS, PLAIN, Stopwatch, System

__all__ = ["measure_polls"]

GAP_S = 3.0

#: A remote job of this length shows another percentage at each poll.
RUN_S = 240.0
STEPS = 100


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of steady polling."""

    polls: int
    wall_s: float
    worker_cpu_s: float
    redis_cpu_s: float

    @property
    def per_cpu_s(self) -> float:
        return self.polls / self.worker_cpu_s


@dataclass(frozen=True, slots=True)
class Side:
    """What one side did under one load; medians of the windows."""

    per_cpu_s: float
    per_s: float
    redis_ms: float
    sent: float
    run: float
    rss_mb: float
    windows: tuple[Window, ...]


def measure_polls(system: System, *, quick: bool) -> list[Part]:
    """Under a load that saturates plain Celery, which the mark is for, and under a light one."""
    loads = [1_500] if quick else [1_500, 60]
    rounds, seconds = (2, 4.0) if quick else (3, 6.0)
    return [_part(system, jobs, rounds, seconds) for jobs in loads]


def _part(system: System, jobs: int, rounds: int, seconds: float) -> Part:
    plain = _side(system, PLAIN, jobs, rounds, seconds)
    ours = _side(system, OURS, jobs, rounds, seconds)
    busy = jobs >= 1_000
    marks = (
        Mark("polls per CPU-second, times plain Celery's", ours.per_cpu_s / plain.per_cpu_s, 5),
        Mark("Redis commands sent per poll", ours.sent, 2, at_most=True),
    )
    return Part(
        f"polls_{jobs}",
        f"{jobs} jobs in flight, each polled every {GAP_S:g} s, progress told on each poll",
        (
            Measure("status polls per CPU-second of the worker", "1/s", ours.per_cpu_s, plain.per_cpu_s),
            Measure(f"status polls made (wanted: {jobs / GAP_S:.0f})", "1/s", ours.per_s, plain.per_s),
            Measure("Redis commands sent by clients, per poll", "count", ours.sent, plain.sent),
            Measure("Redis commands run, those in scripts included, per poll", "count", ours.run, plain.run),
            Measure("CPU time of Redis per poll", "ms", ours.redis_ms, plain.redis_ms),
            Measure("memory of the worker process", "MB", ours.rss_mb, plain.rss_mb),
        ),
        marks if busy else (),
        {
            "windows": {
                name: [
                    {"polls": w.polls, "wall_s": round(w.wall_s, 2), "worker_cpu_s": round(w.worker_cpu_s, 2)}
                    for w in side.windows
                ]
                for name, side in (("ours", ours), ("plain", plain))
            },
        },
    )


def _side(system: System, app: str, jobs: int, rounds: int, seconds: float) -> Side:
    system.clear(jobs=jobs, run_s=RUN_S, steps=STEPS)
    worker = system.worker(app, gap_s=GAP_S)
    fill(system, app, jobs, gap_s=GAP_S)
    time.sleep(GAP_S)
    windows = tuple(_window(system, worker.pid, seconds) for _ in range(rounds))
    rss_mb = worker.rss_mb
    polls = system.status_calls()
    with CommandCount(system.client) as commands:
        time.sleep(seconds / 2)
        # Counted over HTTP: it sends nothing to Redis.
        polls = system.status_calls() - polls
    system.stop_workers()
    return Side(
        per_cpu_s=median([window.per_cpu_s for window in windows]),
        per_s=median([window.polls / window.wall_s for window in windows]),
        redis_ms=median([1000 * window.redis_cpu_s / window.polls for window in windows]),
        sent=commands.sent / polls,
        run=(commands.sent + commands.in_scripts) / polls,
        rss_mb=rss_mb,
        windows=windows,
    )


def _window(system: System, worker_pid: int, seconds: float) -> Window:
    worker, server, polls = Stopwatch(worker_pid), Stopwatch(system.redis_pid), system.status_calls()
    time.sleep(seconds)
    return Window(system.status_calls() - polls, worker.wall_s, worker.cpu_s, server.cpu_s)
