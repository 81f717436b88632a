"""How far a job is: read from what a GPU worker reports, and told to the person who waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ryla_tasks.jobs.record import JobRecord, Observed
from ryla_tasks.jobs.redact import redacted
from ryla_tasks.jobs.states import POLLED, State

__all__ = ["Progress", "Report", "advanced", "progress_of", "read_report"]

_LONGEST_MESSAGE = 200
_LONGEST_READ = 2_000

#: No count or percentage is larger. JSON has whole numbers of any length, and a float holds only so much.
_LARGEST = 1_000_000_000

#: States that a message of the record belongs to. "Trying again in 5 s" is over once the job is sent.
_SPOKEN = frozenset({State.QUEUED, State.RUNNING})

_AT_THE_CLOUD = frozenset({State.WAITING, State.STARTING})


@dataclass(frozen=True, slots=True)
class Report:
    """What a GPU worker said of its progress. `percent` is None where it said none that makes sense."""

    percent: float | None = None
    message: str = ""
    step: int | None = None
    steps: int | None = None
    node: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `percent` never goes back within an attempt; `eta_s` is None where nothing can be said.

    `attempt` is the one under way, or the one that a job in line waits for.
    """

    phase: State
    percent: float
    message: str
    eta_s: float | None
    endpoint: str
    attempt: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; what `AsyncResult.info` holds while a job is under way."""
        return {
            "phase": self.phase.value,
            "percent": self.percent,
            "message": self.message,
            "eta_s": self.eta_s,
            "endpoint": self.endpoint,
            "attempt": self.attempt,
        }


def read_report(output: Any) -> Report:
    """Read a worker's progress update: a number, a text, or an object with `percent` or `progress` and the like.

    RunPod passes on whatever the worker gave to `progress_update`, so anything may come; what makes no sense is
    left out.
    """
    if isinstance(output, str):
        return Report(message=_words(output))
    if isinstance(output, (int, float)):
        return Report(percent=_percent(output))
    if not isinstance(output, Mapping):
        return Report()
    step, steps = _whole(output.get("step")), _whole(output.get("steps", output.get("totalSteps")))
    percent = _percent(output.get("percent", output.get("progress")))
    if percent is None and step is not None and steps:
        percent = _percent(100.0 * step / steps)
    message, node = output.get("message"), output.get("node")
    return Report(
        percent=percent,
        message=_with_loss(_words(message), output.get("loss")),
        step=step,
        steps=steps,
        node=_words(node),
    )


def _words(value: Any) -> str:
    """A text that may be shown, and kept in events: short, with no presigned URL and no file in it."""
    return redacted(value[:_LONGEST_READ])[:_LONGEST_MESSAGE] if isinstance(value, str) else ""


def _with_loss(message: str, loss: Any) -> str:
    """What a training says of its loss, behind its words, unless they say it."""
    if isinstance(loss, bool) or not isinstance(loss, (int, float)) or not 0 <= loss <= _LARGEST or "loss" in message:
        return message
    said = f"loss {loss:.4f}"
    return f"{message}, {said}" if message else said


def progress_of(record: JobRecord, now: float) -> Progress:
    """What to tell the user of a job right now."""
    return Progress(
        phase=record.state,
        percent=100.0 if record.state is State.COMPLETED else round(record.observed.percent, 1),
        message=_message(record),
        eta_s=_eta(record, now),
        endpoint=record.spec.endpoint,
        attempt=record.attempt + (record.state is State.QUEUED),
    )


def _message(record: JobRecord) -> str:
    if record.cancel and not record.state.ended:
        return "Cancelling"
    observed = record.observed
    if observed.stuck and record.state in _AT_THE_CLOUD:
        return observed.waiting
    if observed.message and _is_spoken(record):
        return observed.message
    if observed.waiting and record.state in _AT_THE_CLOUD:
        return observed.waiting
    if record.state is State.RUNNING and observed.step is not None and observed.steps:
        return f"{record.state.sentence}: step {observed.step} of {observed.steps}"
    return record.state.sentence


def _is_spoken(record: JobRecord) -> bool:
    return record.state in _SPOKEN or (record.state in POLLED and record.observed.dispatches > 0)


def _eta(record: JobRecord, now: float) -> float | None:
    if record.state.ended:
        return 0.0
    expected = record.observed.run_s or record.spec.expected_run_s
    if record.state is State.COLLECTING:
        return 1.0
    if record.state is not State.RUNNING or not record.observed.running_since:
        return round(expected + max(0.0, record.observed.starts_at - now), 1)
    run = max(0.0, now - record.observed.running_since)
    if record.observed.percent >= 1.0:
        return round(run * (100.0 - record.observed.percent) / record.observed.percent, 1)
    return round(max(expected - run, 1.0), 1)


def advanced(observed: Observed, report: Report) -> Observed:
    """The observed state after a report: the percentage never goes back."""
    return replace(
        observed,
        percent=max(observed.percent, report.percent or 0.0),
        message=report.message,
        step=report.step,
        steps=report.steps,
        node=report.node,
    )


def _percent(value: Any) -> float | None:
    """A percentage from 0 to 99.9: only a result makes a job a hundred per cent done."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
        return None
    return min(max(float(value), 0.0), 99.9)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None
