"""The states of a job, and the sentence for each that a person may read.

    queued -> submitting -> (unknown) -> waiting -> starting -> running -> collecting -> completed
                                                                                       | failed | cancelled
                                                                                       | timed_out | expired

`waiting` is queued at the cloud with GPU workers alive or scaling; `starting` is a cold start under way;
`collecting` means that the GPU is done and the result is being fetched and stored. The last five are ends, and an
end is final.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ENDS", "POLLED", "Priority", "State"]


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNKNOWN = "unknown"
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    COLLECTING = "collecting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        return self in ENDS

    @property
    def sentence(self) -> str:
        """What to tell the person who waits."""
        return _SENTENCES[self]


class Priority(StrEnum):
    """How soon a job is taken from our queue, against other jobs there."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def level(self) -> int:
        """The number that Celery's Redis transport sorts by: 0 goes first, and it keeps the steps 0, 3, 6, 9."""
        return _LEVELS[self]


ENDS = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT, State.EXPIRED})

#: States in which a remote job exists and is asked after.
POLLED = frozenset({State.WAITING, State.STARTING, State.RUNNING})

_LEVELS = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6}

_SENTENCES = {
    State.QUEUED: "In line",
    State.SUBMITTING: "Sending to a GPU",
    State.UNKNOWN: "Checking whether a GPU has taken it",
    State.WAITING: "Waiting for a GPU",
    State.STARTING: "Starting a GPU",
    State.RUNNING: "Working on it",
    State.COLLECTING: "Fetching the result",
    State.COMPLETED: "Done",
    State.FAILED: "Failed",
    State.CANCELLED: "Cancelled",
    State.TIMED_OUT: "Took too long",
    State.EXPIRED: "Expired before it could run",
}
