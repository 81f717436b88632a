"""The parts of `make bench`, by name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.enqueue import measure_enqueue
from benchmarks.held import measure_held
from benchmarks.latency import measure_latency
from benchmarks.polls import measure_polls
from benchmarks.report import Mark, Measure, Part
from benchmarks.streams import measure_streams
from benchmarks.system import ROOT, System

__all__ = ["PARTS"]

OUR_CALL = "ryla_tasks RunPod.status, patient=False"
THEIR_CALL = "requests session.get(url).json(), trust_env off"


def measure_status_call(_system: System, *, quick: bool) -> list[Part]:
    """`benchmarks.status_call`, as a part."""
    found = _run("benchmarks.status_call", "--calls", "1500" if quick else "3000", "--rounds", "3" if quick else "5")
    measures = [
        Measure(f"CPU time of a call, {name}", "ms", ways[OUR_CALL]["cpu_ms"], ways[THEIR_CALL]["cpu_ms"])
        for name, ways in found["per_call"].items()
    ]
    about = "one status call over loopback: our client, against a pooled requests.Session"
    return [Part("status_call", about, tuple(measures), details=found)]


def measure_simulator(_system: System, *, quick: bool) -> list[Part]:
    """`benchmarks.simulator_status`, as a part."""
    found = _run("benchmarks.simulator_status", "--jobs", "2000" if quick else "10000", "--seconds", "3")
    measures = (
        Measure("status calls per CPU-second of the simulator", "1/s", found["calls_per_server_cpu_s"]),
        Measure("memory of the simulator", "MB", found["server_rss_mb"]),
    )
    marks = (Mark("status calls per CPU-second of the simulator", found["calls_per_server_cpu_s"], 1_500),)
    about = f"the simulator with {found['jobs_in_flight']:,} jobs in flight"
    return [Part("simulator", about, measures, marks, found)]


def _run(module: str, *options: str) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", module, *options], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


#: Each takes the system and `quick`, and gives one or more parts.
PARTS: dict[str, Callable[..., list[Part]]] = {
    "polls": measure_polls,
    "held": measure_held,
    "enqueue": measure_enqueue,
    "latency": measure_latency,
    "streams": measure_streams,
    "status_call": measure_status_call,
    "simulator": measure_simulator,
}
