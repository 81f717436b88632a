"""What a simulated GPU worker runs, and how one run of it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Protocol

from ..config import EndpointConfig
from ..directives import DirectiveError, Directives
from ..faults import RunFault
from ..job_faults import CrashWorker, NeverEnd

__all__ = ["End", "Execution", "Program", "ProgramError", "Work", "plan_execution"]


class ProgramError(Exception):
    """The program cannot do this input: the job fails with this text as its `error`."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a program would do: how long, in how many steps, and what comes out.

    `render` makes the output as plain JSON; it must give the same for every call, because it is called when somebody
    reads the output, in another thread, perhaps more than once.
    """

    render: Callable[[], Any]
    seconds: float
    steps: int = 0
    node: str = ""
    #: What progress says besides, of a step of so many.
    report: Callable[[int, int], Mapping[str, Any]] | None = None


class Program(Protocol):
    """A GPU worker's handler. Runs in the server's event loop, so it must only read its input and be quick."""

    def prepare(self, job_input: Mapping[str, Any], directives: Directives, config: EndpointConfig) -> Work:
        """Say what this input would be; raises `ProgramError`."""
        ...


class End(Enum):
    """How a run ends if nobody interferes."""

    COMPLETED = auto()
    FAILED = auto()
    CRASH = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of one job on one worker. `end_after_s` is where `end` comes, `seconds` what progress is measured by."""

    seconds: float
    end: End
    end_after_s: float
    steps: int = 0
    node: str = ""
    error: str | None = None
    render: Callable[[], Any] | None = None
    chunks: tuple[Any, ...] = ()
    report: Callable[[int, int], Mapping[str, Any]] | None = None

    def progress(self, fraction: float) -> dict[str, Any] | None:
        """The report of the last step that is over at this fraction of the run."""
        if not self.steps:
            return None
        step = int(self.steps * fraction)
        if self.end is End.NEVER:
            step = min(step, self.steps - 1)
        told = {"percent": 100 * step // self.steps, "step": step, "steps": self.steps, "node": self.node}
        return told if self.report is None else {**told, **self.report(step, self.steps)}

    def struck_by(self, fault: RunFault | None) -> Execution:
        """The run as a fault makes it go."""
        match fault:
            case CrashWorker():
                after = self.seconds / 2 if fault.after_s is None else fault.after_s
                return replace(self, end=End.CRASH, end_after_s=after, render=None)
            case NeverEnd():
                return replace(self, end=End.NEVER, end_after_s=float("inf"), render=None)
        return self


def plan_execution(
    program: Program, job_input: Mapping[str, Any], config: EndpointConfig, *, earlier_runs: int
) -> Execution:
    """Decide how a run will go, from the program and the job's directives."""
    if not job_input:
        # Seen live: with `{}` as input the worker logs "Job has missing field(s): id or input", never answers, and
        # the job ends FAILED with "job timed out after 1 retries".
        return Execution(config.run_s, End.CRASH, config.run_s)
    try:
        directives = Directives.read(job_input)
        work = program.prepare(job_input, directives, config)
    except (DirectiveError, ProgramError) as error:
        return Execution(0.0, End.FAILED, 0.0, error=str(error))
    return _steered(work, directives, earlier_runs)


def _steered(work: Work, directives: Directives, earlier_runs: int) -> Execution:
    seconds = work.seconds if directives.seconds is None else directives.seconds
    steps = work.steps if directives.steps is None else directives.steps
    end, after, render, error = End.COMPLETED, seconds, _output(work, directives), None
    if earlier_runs < directives.crash:
        end = End.CRASH
        after = seconds / 2 if directives.crash_after_s is None else directives.crash_after_s
    elif directives.never_end:
        end, after = End.NEVER, float("inf")
    elif directives.fail is not None and (directives.fail_runs is None or earlier_runs < directives.fail_runs):
        end, error = End.FAILED, directives.fail
        rest = directives.fail_output
        render = None if rest is None else lambda: rest
    return Execution(seconds, end, after, steps, work.node, error, render, directives.chunks, work.report)


def _output(work: Work, directives: Directives) -> Callable[[], Any] | None:
    if directives.no_output:
        return None
    if directives.output is not None:
        return lambda: directives.output
    if directives.output_bytes is not None:
        size = directives.output_bytes
        return lambda: {"data": "x" * size}
    return work.render
