"""From the end of the remote job to the moment when its result can be had from the result backend.

The simulator says when a job ended; the result is there when the backend publishes it, which is what
`AsyncResult.get()` waits for. Ours polls as it does by default, plain Celery each second, which is our shortest gap;
how many polls each side made for a job stands beside.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from benchmarks.fill import job_input
from benchmarks.report import Measure, Part, percentile
from benchmarks.system import ENDPOINT, OURS, PLAIN, ROOT, System, eventually

__all__ = ["measure_latency"]

SEED = 20
STEPS = 20
PREFIX = b"celery-task-meta-"


def measure_latency(system: System, *, quick: bool) -> list[Part]:
    """One job at a time, and 200 jobs at once, of random length."""
    chance = random.Random(SEED)
    alone = [[chance.uniform(2, 5)] for _ in range(4 if quick else 8)]
    together = [[chance.uniform(5, 15) for _ in range(200)]]
    return [
        _part(system, "latency_alone", f"{len(alone)} jobs of 2 to 5 s, one after the other", alone),
        _part(system, "latency_200", "200 jobs of 5 to 15 s at once", together),
    ]


def _part(system: System, name: str, about: str, batches: list[list[float]]) -> Part:
    plain, ours = _side(system, PLAIN, batches), _side(system, OURS, batches)
    measures = [
        Measure(f"remote end to result, p{at}", "s", percentile(ours[0], at), percentile(plain[0], at))
        for at in (50, 95)
    ]
    measures.append(Measure("status calls per job", "calls", ours[1], plain[1]))
    return Part(name, about, tuple(measures), details={"seed": SEED})


def _side(system: System, app: str, batches: list[list[float]]) -> tuple[list[float], float]:
    """How late each result was, in seconds, and the status calls per job."""
    jobs = sum(map(len, batches))
    system.clear(jobs=jobs, steps=STEPS)
    system.worker(app)
    late: list[float] = []
    with Results(system) as results:
        for batch in batches:
            late += _batch(system, app, batch, results)
    calls = system.status_calls() / jobs
    system.stop_workers()
    return late, calls


def _batch(system: System, app: str, seconds: list[float], results: Results) -> list[float]:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.latency", app, json.dumps(seconds)],
        cwd=ROOT, env=system.environment(), check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    mine: dict[str, int] = json.loads(answer.stdout)
    eventually(lambda: mine.keys() <= results.at.keys(), timeout=90, what="the results are there")
    ended = _ends(system)
    return [results.at[task_id] - ended[mark] for task_id, mark in mine.items()]


def _ends(system: System) -> dict[int, float]:
    """When each job ended at the simulator, by the mark in its input, on the monotonic clock."""
    ends: dict[int, float] = {}
    for job in system.simulator.endpoint(ENDPOINT).jobs():
        path = f"/simulator/endpoints/{ENDPOINT}/jobs/{job.id}"
        whole: dict[str, Any] = system.simulator.call("GET", path).json()
        if job.ended_at is not None:
            ends[whole["input"]["mark"]] = system.origin + job.ended_at
    return ends


class Results:
    """Notes when each task's end is published by the result backend."""

    def __init__(self, system: System) -> None:
        self.at: dict[str, float] = {}
        self._pubsub = system.client.pubsub(ignore_subscribe_messages=True)
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._pubsub.psubscribe(PREFIX + b"*")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._pubsub.close()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            message = self._pubsub.get_message(timeout=0.2)
            now = time.monotonic()
            if message is None:
                continue
            result = json.loads(message["data"])
            if result["status"] == "FAILURE":
                raise RuntimeError(f"a job failed: {result['result']}")
            if result["status"] == "SUCCESS":
                self.at[result["task_id"]] = now


def main(app: str, seconds: list[float]) -> None:
    """Enqueue one job for each length; print their ids with their marks."""
    if app == OURS:
        import ryla_tasks

        def enqueue(data: dict[str, Any]) -> str:
            return str(ryla_tasks.run_endpoint.delay("bench", data).id)
    else:
        from benchmarks.plain_celery import run_job

        def enqueue(data: dict[str, Any]) -> str:
            return str(run_job.delay(data).id)

    first = time.monotonic_ns()
    marks = range(first, first + len(seconds))
    made = {enqueue(job_input(mark, seconds=one)): mark for mark, one in zip(marks, seconds, strict=True)}
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
