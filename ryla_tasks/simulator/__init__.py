"""A RunPod that runs on a laptop.

An HTTP server that speaks the RunPod serverless API over simulated queues, GPU workers and autoscalers, with pictures
that are painted and marked as simulated. Needs the extra: `pip install 'ryla-tasks[simulator]'`.
"""

from __future__ import annotations

try:
    import aiohttp as _aiohttp  # noqa: F401
    import PIL as _PIL  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"the simulator needs {error.name}, which is not installed: pip install 'ryla-tasks[simulator]'",
        name=error.name,
    ) from error

from .background import RunningSimulator
from .client import EndpointClient, SimulatorClient
from .clock import Clock
from .config import DEFAULT_KEY, EndpointConfig, ScalerType, SimulatorConfig, WorkerStart
from .counters import LOST, CounterSnapshot
from .directives import Directives
from .faults import Answer, AnyFault, CallWebhook, CutAnswer, Delay, Fault, FaultView, LoseAnswer, Outdated, Reset
from .job_faults import CrashWorker, DropOutput, ExpireResult, FailStart, LateProgress, NeverEnd, TruncateOutput
from .jobs import JobStatus
from .operations import Operation, WorkerOperation
from .programme import FaultProgramme, Phase
from .programme_file import read_programme
from .programs import Program, ProgramError, Work
from .server import Simulator
from .views import EndpointView, JobView, WorkerView

__all__ = [
    "DEFAULT_KEY",
    "LOST",
    "Answer",
    "AnyFault",
    "CallWebhook",
    "Clock",
    "CounterSnapshot",
    "CrashWorker",
    "CutAnswer",
    "Delay",
    "Directives",
    "DropOutput",
    "EndpointClient",
    "EndpointConfig",
    "EndpointView",
    "ExpireResult",
    "FailStart",
    "Fault",
    "FaultProgramme",
    "FaultView",
    "JobStatus",
    "JobView",
    "LateProgress",
    "LoseAnswer",
    "NeverEnd",
    "Operation",
    "Outdated",
    "Phase",
    "Program",
    "ProgramError",
    "Reset",
    "RunningSimulator",
    "ScalerType",
    "Simulator",
    "SimulatorClient",
    "SimulatorConfig",
    "TruncateOutput",
    "Work",
    "WorkerOperation",
    "WorkerStart",
    "WorkerView",
    "read_programme",
]
