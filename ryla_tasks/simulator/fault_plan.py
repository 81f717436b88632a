"""Decides what goes wrong at one endpoint, case by case, from the faults that were set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from .fault_base import FaultBase
from .faults import AnyFault, CallFault, CallWebhook, Delay, EndFault, FaultView, Outdated, RunFault, Strike
from .job_faults import CrashWorker, DropOutput, ExpireResult, FailStart, LateProgress, NeverEnd, TruncateOutput
from .operations import Operation, WorkerOperation

__all__ = ["FaultPlan"]

_OF_RUNS: tuple[type[RunFault], ...] = (CrashWorker, NeverEnd)
_OF_ENDS: tuple[type[EndFault], ...] = (TruncateOutput, DropOutput, ExpireResult, LateProgress)

_Kind = TypeVar("_Kind", bound=FaultBase)


@dataclass(slots=True)
class _Armed:
    number: int
    fault: AnyFault
    random: Random
    from_s: float
    to_s: float | None
    seen: int = 0
    struck: int = 0
    row: int = 0

    def strikes(self, remote_id: str | None, now: float) -> bool:
        """Whether a case is struck that this fault is for."""
        fault = self.fault
        if now < self.from_s or (self.to_s is not None and now >= self.to_s):
            return False
        if fault.remote_id is not None and fault.remote_id != remote_id:
            return False
        self.seen += 1
        if self.seen <= fault.skip or (fault.times is not None and self.struck >= fault.times):
            return False
        if not self.row and fault.probability < 1 and self.random.random() >= fault.probability:
            return False
        self.struck += 1
        self.row = (self.row or fault.burst) - 1
        return True


@dataclass(slots=True)
class FaultPlan:
    """The faults of one endpoint, in the order in which they were set.

    The same seed, faults and cases: the same strikes. Each fault draws from a generator of its own, so what one of
    them sees does not change what another does.
    """

    random: Random
    struck: Counter[str] = field(default_factory=Counter)
    """How often each kind has struck, faults included that were taken away since."""
    _armed: list[_Armed] = field(default_factory=list)
    _numbers: int = 0

    def add(self, fault: AnyFault, from_s: float = 0.0, to_s: float | None = None) -> int:
        """Set one more fault, from one simulated time up to another; returns its number."""
        self._numbers += 1
        self._armed.append(_Armed(self._numbers, fault, Random(self.random.getrandbits(64)), from_s, to_s))
        return self._numbers

    def clear(self) -> None:
        """Take all faults away."""
        self._armed.clear()

    def view(self) -> list[FaultView]:
        return [
            FaultView(number=one.number, fault=one.fault, struck=one.struck, from_s=one.from_s, to_s=one.to_s)
            for one in self._armed
        ]

    def strike(
        self, op: Operation | WorkerOperation, remote_id: str | None, *, ended: bool = False, now: float = 0.0
    ) -> Strike | None:
        """Decide one call; `ended` says that the job which it is about has. The first fault with a false answer wins;
        those after it do not see the call."""
        delay = 0.0
        for armed in self._armed:
            fault = armed.fault
            match fault:
                case Outdated():
                    if op is not Operation.STATUS or not ended:
                        continue
                case CallFault():
                    if fault.op != op and (fault.op != "*" or isinstance(op, WorkerOperation)):
                        continue
                case _:
                    continue
            if not self._strikes(armed, remote_id, now):
                continue
            if not isinstance(fault, Delay):
                return Strike(fault, delay)
            delay += fault.seconds
        return Strike(delay_s=delay) if delay else None

    def webhook(self, remote_id: str, now: float = 0.0) -> CallWebhook | None:
        """Decide how a job's webhook is called. None calls it once."""
        return next(self._striking((CallWebhook,), remote_id, now), None)

    def run(self, remote_id: str, now: float) -> RunFault | None:
        """Decide one run of a job."""
        return next(self._striking(_OF_RUNS, remote_id, now), None)

    def end(self, remote_id: str, now: float, *, success: bool, joined: bool) -> list[EndFault]:
        """Decide one end of a job: all that strike. A joined worker's progress is late by itself, or it is not."""
        kinds: tuple[type[EndFault], ...] = (ExpireResult,)
        if success:
            kinds += (TruncateOutput, DropOutput) if joined else (TruncateOutput, DropOutput, LateProgress)
        return [*self._striking(kinds, remote_id, now)]

    def late_progress(self, remote_id: str, now: float) -> LateProgress | None:
        """Decide a progress that a joined worker has really sent after the end."""
        return next(self._striking((LateProgress,), remote_id, now), None)

    def start(self, now: float) -> FailStart | None:
        """Decide the start of a worker."""
        return next(self._striking((FailStart,), None, now), None)

    def _striking(self, kinds: tuple[type[_Kind], ...], remote_id: str | None, now: float) -> Iterator[_Kind]:
        for armed in self._armed:
            if isinstance(armed.fault, kinds) and self._strikes(armed, remote_id, now):
                yield armed.fault

    def _strikes(self, armed: _Armed, remote_id: str | None, now: float) -> bool:
        struck = armed.strikes(remote_id, now)
        if struck:
            self.struck[armed.fault.kind] += 1
        return struck
