"""A simulated RunPod that a test can tell how the next jobs go."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from ryla_tasks.simulator import (
    CounterSnapshot,
    Directives,
    EndpointConfig,
    JobView,
    Program,
    ProgramError,
    RunningSimulator,
    SimulatorConfig,
    Work,
)
from ryla_tasks.simulator.programs import PROGRAMS

__all__ = ["JobSimulator"]

#: What the GPU workers of a kind of endpoint run.
_PROGRAMS = {"image": "image", "special": "image", "lora": "lora"}
_WARM = {"workers_min": 4, "workers_max": 4, "cold_start_s": 0.0, "queue_delay_s": 0.0, "run_s": 0.1, "steps": 4}


class JobSimulator(RunningSimulator):
    """A simulator with helpers that take endpoints by their names in the settings.

    What is said of the next jobs of an endpoint counts for one run each, in the order in which it was said; a job that
    is tried again takes what comes next. Beside these helpers everything else of a simulator is there:
    `simulator.endpoint("image").add_fault(...)`, `.update(run_s=5)`, `.jobs()`.
    """

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._script = _Script()
        self._programs = {name: _program(name, kind) for name, kind in kinds.items()}
        configs = [
            EndpointConfig.model_validate({"endpoint_id": name, "program": program, **_WARM})
            for name, program in self._programs.items()
        ]
        scripted = {name: _Scripted(program, self._script) for name, program in PROGRAMS.items()}
        super().__init__(SimulatorConfig(endpoints=tuple(configs)), scripted)

    def fail_next(self, error: str = "RuntimeError: simulated", *, endpoint: str = "image", times: int = 1) -> None:
        """Let the next runs fail with this `error`, as a GPU worker would say it. What follows is for the error to
        decide (docs/errors.md): "CUDA out of memory", say, is tried once more."""
        for _ in range(times):
            self._script.add(endpoint, _Fail(error))

    def answer_next(self, output: Any, *, endpoint: str = "image") -> None:
        """Let the next run end with this output."""
        self._script.add(endpoint, _Answer(output))

    def report_next(
        self, reports: Sequence[float | str | Mapping[str, Any]], *, seconds: float = 2.0, endpoint: str = "image"
    ) -> None:
        """Let the next run take so long, and tell these reports on its way, evenly: percentages, sentences, or objects
        with `percent` and `message`."""
        self._script.add(endpoint, _Report(tuple(map(_as_report, reports)), seconds))

    def cold_start(self, seconds: float = 2.0, *, endpoint: str = "image") -> None:
        """Let the endpoint have no GPU worker at the moment, and each start take so long. Forgets its jobs."""
        config = self.endpoint(endpoint).view().config
        self.endpoint(endpoint).remove()
        changes = {"workers_min": 0, "workers_max": 3, "cold_start_s": seconds}
        self.add_endpoint(config.model_copy(update=changes))

    def counters(self, endpoint: str = "image") -> CounterSnapshot:
        """What the endpoint has counted: `accepted`, `duplicates`, `billable_starts`, `cancels`, `ended` and so on."""
        return self.endpoint(endpoint).counters()

    def jobs(self, endpoint: str = "image") -> list[JobView]:
        """The remote jobs of the endpoint, in the order of their submission, each with its input."""
        face = self.endpoint(endpoint)
        return [face.job(job.id) for job in face.jobs()]


class _Fail:
    def __init__(self, error: str) -> None:
        self.error = error


class _Answer:
    def __init__(self, output: Any) -> None:
        self.output = output


class _Report:
    def __init__(self, reports: tuple[Mapping[str, Any], ...], seconds: float) -> None:
        self.reports = reports
        self.seconds = seconds


_Line = _Fail | _Answer | _Report


class _Script:
    """What was said of the next runs of each endpoint."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: defaultdict[str, deque[_Line]] = defaultdict(deque)

    def add(self, endpoint: str, line: _Line) -> None:
        with self._lock:
            self._lines[endpoint].append(line)

    def take(self, endpoint: str) -> _Line | None:
        with self._lock:
            lines = self._lines[endpoint]
            return lines.popleft() if lines else None


class _Scripted:
    """A program whose runs go by the script first."""

    def __init__(self, program: Program, script: _Script) -> None:
        self._program = program
        self._script = script

    def prepare(self, job_input: Mapping[str, Any], directives: Directives, config: EndpointConfig) -> Work:
        line = self._script.take(config.endpoint_id)
        match line:
            case _Fail():
                raise ProgramError(line.error)
            case _Answer():
                return Work(render=lambda: line.output, seconds=config.run_s)
        work = self._program.prepare(job_input, directives, config)
        if line is None:
            return work
        told = line.reports

        def report(step: int, _steps: int) -> Mapping[str, Any]:
            return told[min(step, len(told)) - 1] if step else {}

        return Work(work.render, line.seconds, len(told) + 1, work.node, report)


def _as_report(report: float | str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(report, str):
        return {"message": report}
    return report if isinstance(report, Mapping) else {"percent": report}


def _program(name: str, kind: str) -> str:
    """An endpoint of the project's own that is of no particular kind answers with its input."""
    return "echo" if kind == "special" and name != "special" else _PROGRAMS[kind]
