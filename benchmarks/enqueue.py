"""What `.delay()` costs its caller, a web request for instance.

Ours checks the input, writes the job's record in one script, and sends the message; plain Celery sends the message of
a task that does nothing, with the same arguments. Both run in one process, in turns, so that whatever else the machine
does meets both; no worker runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.fill import job_input
from benchmarks.report import Mark, Measure, Part, median, percentile
from benchmarks.system import ROOT, System

__all__ = ["measure_enqueue"]

TURN = 20


def measure_enqueue(system: System, *, quick: bool) -> list[Part]:
    """An endpoint's input of a kilobyte, and an image by template."""
    calls = 600 if quick else 2_000
    system.clear(jobs=1)
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.enqueue", str(calls)],
        cwd=ROOT, env=system.environment(), check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, dict[str, dict[str, float]]] = json.loads(answer.stdout)
    return [_part(name, about, found[name]) for name, about in _ABOUT.items()]


_ABOUT = {
    "enqueue_input": "run_endpoint.delay(name, input of 1 KB), against a no-op task with the same arguments",
    "enqueue_image": "generate_image.delay(template=..., prompt=...), against a no-op task with the same arguments",
}

_WHAT = {"wall": "time of a call", "cpu": "CPU time of a call"}


def _part(name: str, about: str, sides: dict[str, dict[str, float]]) -> Part:
    ours, plain = sides["ours"], sides["plain"]
    measures = tuple(
        Measure(f"{_WHAT[clock]}, {at}", "µs", ours[f"{clock}_{at}"], plain[f"{clock}_{at}"])
        for clock in ("wall", "cpu")
        for at in ("p50", "p95")
    )
    marks = tuple(
        Mark(
            f"{_WHAT[clock]} (median), times plain Celery's",
            ours[f"{clock}_p50"] / plain[f"{clock}_p50"], 1.5, at_most=True,
        )
        for clock in ("wall", "cpu")
    )  # fmt: skip
    return Part(name, about, measures, marks)


def _measure(calls: int) -> dict[str, dict[str, dict[str, float]]]:
    import ryla_tasks
    from benchmarks.plain_celery import nothing

    image = {"template": "z-image-turbo", "prompt": "a lighthouse at dusk", "seed": 7, "user_id": "ann"}
    pairs: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
        "enqueue_input": (
            lambda n: ryla_tasks.run_endpoint.delay("bench", job_input(n)),
            lambda n: nothing.delay("bench", job_input(n)),
        ),
        "enqueue_image": (
            lambda _n: ryla_tasks.generate_image.delay(**image),
            lambda _n: nothing.delay(**image),
        ),
    }
    return {name: _in_turns(pair, calls) for name, pair in pairs.items()}


def _in_turns(pair: tuple[Callable[[int], Any], Callable[[int], Any]], calls: int) -> dict[str, dict[str, float]]:
    sides = {"ours": pair[0], "plain": pair[1]}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for call in pair:
        for number in range(TURN):
            call(number)
    for _ in range(calls // TURN):
        for name, call in sides.items():
            for number in range(TURN):
                began, spent = time.perf_counter(), time.process_time()
                call(number)
                cpu[name].append(1e6 * (time.process_time() - spent))
                wall[name].append(1e6 * (time.perf_counter() - began))
    return {
        name: {
            "wall_p50": median(wall[name]),
            "wall_p95": percentile(wall[name], 95),
            "cpu_p50": median(cpu[name]),
            "cpu_p95": percentile(cpu[name], 95),
        }
        for name in sides
    }


if __name__ == "__main__":
    json.dump(_measure(int(sys.argv[1])), sys.stdout)
