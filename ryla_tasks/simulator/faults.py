"""What can be made to go wrong with the answers of an endpoint, on purpose and repeatably."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .operations import Operation, WorkerOperation

__all__ = [
    "Answer",
    "AnyFault",
    "CallWebhook",
    "Delay",
    "Fault",
    "FaultPlan",
    "FaultView",
    "LoseAnswer",
    "Outdated",
    "Strike",
    "parse_fault",
]


class _FaultBase(BaseModel):
    """What a fault strikes.

    Of the calls that it is for (where given, about the job `remote_id`), the first `skip` pass, then the next `times`
    are struck (None: all of them), each with `probability`, drawn from the endpoint's seeded generator. A call that
    the draw spares uses up none of `times`. With a `burst` the calls that follow one that was drawn are struck without
    a draw, so many in a row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    remote_id: str | None = None
    skip: int = Field(0, ge=0)
    times: int | None = Field(1, ge=1)
    probability: float = Field(1.0, gt=0, le=1)
    burst: int = Field(1, ge=1)


class _CallFault(_FaultBase):
    """A fault of the calls of one operation, or of all."""

    op: Operation | WorkerOperation | Literal["*"] = "*"
    """"*" is every operation of a client; those of joined workers are struck by their name only."""


class LoseAnswer(_CallFault):
    """Close the connection without an answer; with `after` the operation has been carried out before.

    `LoseAnswer(op="run")` is the submit whose fate the client cannot know: the job was taken.
    """

    kind: Literal["lose_answer"] = "lose_answer"
    after: bool = True


class Answer(_CallFault):
    """Answer with this status and body in place of the true one; with `after` the operation was carried out.

    `retry_after` goes out as the header of that name, in real seconds: `time_scale` does not change it. Without a
    `body` there is an error body as RunPod's.
    """

    kind: Literal["answer"] = "answer"
    status: int = Field(ge=200, le=599)
    body: str | None = None
    retry_after: float | None = Field(None, ge=0)
    after: bool = False


class Delay(_CallFault):
    """Hold the answer back for so many simulated seconds; the operation itself happens at once."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(gt=0)


class Outdated(_FaultBase):
    """Answer a status call about a job that has ended as if it still ran: IN_PROGRESS, with its progress at
    `fraction` of the run. That is what comes of an answer that was overtaken, or of a copy that is behind. Other calls
    pass and do not count."""

    kind: Literal["outdated"] = "outdated"
    fraction: float = Field(0.5, ge=0, le=1)


class CallWebhook(_FaultBase):
    """Call a job's webhook so many `times_each`, `apart_s` simulated seconds from each other; 0 loses it. Each call has
    the usual tries. What counts as a call here is a job's end."""

    kind: Literal["call_webhook"] = "call_webhook"
    times_each: int = Field(2, ge=0, le=10)
    apart_s: float = Field(0.0, ge=0)


AnyFault = LoseAnswer | Answer | Delay | Outdated | CallWebhook

Fault = Annotated[AnyFault, Field(discriminator="kind")]

_FAULT: TypeAdapter[AnyFault] = TypeAdapter(Fault)


def parse_fault(data: object) -> AnyFault:
    """Read one fault from plain data; raises pydantic's `ValidationError`."""
    return _FAULT.validate_python(data)


class FaultView(BaseModel):
    """A fault that was set, and how often it has struck."""

    number: int
    fault: Fault
    struck: int


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens to one call: at most one false answer, and the delays together."""

    reply: LoseAnswer | Answer | Outdated | None = None
    delay_s: float = 0.0

    @property
    def carried_out(self) -> bool:
        """Whether the operation happens all the same."""
        return not isinstance(self.reply, LoseAnswer | Answer) or self.reply.after


@dataclass(slots=True)
class _Armed:
    number: int
    fault: AnyFault
    seen: int = 0
    struck: int = 0
    row: int = 0

    def strikes(self, remote_id: str | None, random: Random) -> bool:
        """Whether a call is struck that this fault is for."""
        fault = self.fault
        if fault.remote_id is not None and fault.remote_id != remote_id:
            return False
        self.seen += 1
        if self.seen <= fault.skip or (fault.times is not None and self.struck >= fault.times):
            return False
        if not self.row and fault.probability < 1 and random.random() >= fault.probability:
            return False
        self.struck += 1
        self.row = (self.row or fault.burst) - 1
        return True


@dataclass(slots=True)
class FaultPlan:
    """The faults of one endpoint, in the order in which they were set. The same seed and calls, the same strikes."""

    random: Random
    _armed: list[_Armed] = field(default_factory=list)
    _numbers: int = 0

    def add(self, fault: AnyFault) -> int:
        """Set one more fault; returns its number."""
        self._numbers += 1
        self._armed.append(_Armed(self._numbers, fault))
        return self._numbers

    def clear(self) -> None:
        """Take all faults away."""
        self._armed.clear()

    def view(self) -> list[FaultView]:
        return [FaultView(number=armed.number, fault=armed.fault, struck=armed.struck) for armed in self._armed]

    def strike(self, op: Operation | WorkerOperation, remote_id: str | None, *, ended: bool = False) -> Strike | None:
        """Decide one call; `ended` says that the job which it is about has. The first fault with a false answer wins;
        those after it do not see the call."""
        delay = 0.0
        for armed in self._armed:
            fault = armed.fault
            match fault:
                case CallWebhook():
                    continue
                case Outdated():
                    if op is not Operation.STATUS or not ended:
                        continue
                case _ if fault.op != op and (fault.op != "*" or isinstance(op, WorkerOperation)):
                    continue
            if not armed.strikes(remote_id, self.random):
                continue
            if not isinstance(fault, Delay):
                return Strike(fault, delay)
            delay += fault.seconds
        return Strike(delay_s=delay) if delay else None

    def webhook(self, remote_id: str) -> CallWebhook | None:
        """Decide how a job's webhook is called; the first fault that strikes wins. None calls it once."""
        for armed in self._armed:
            if isinstance(armed.fault, CallWebhook) and armed.strikes(remote_id, self.random):
                return armed.fault
        return None
