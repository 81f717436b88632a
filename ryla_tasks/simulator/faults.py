"""What can be made to go wrong with the answers of an endpoint, on purpose and repeatably."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .operations import Operation

__all__ = ["Answer", "Delay", "Fault", "FaultPlan", "FaultView", "LoseAnswer", "Strike", "parse_fault"]


class _FaultBase(BaseModel):
    """Which calls a fault strikes.

    Of the calls of `op` (and, where given, about the job `remote_id`), the first `skip` pass, then the next `times`
    are struck (None: all of them), each with `probability`, drawn from the endpoint's seeded generator. A call that
    the draw spares uses up none of `times`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Operation | Literal["*"] = "*"
    remote_id: str | None = None
    skip: int = Field(0, ge=0)
    times: int | None = Field(1, ge=1)
    probability: float = Field(1.0, gt=0, le=1)


class LoseAnswer(_FaultBase):
    """Close the connection without an answer; with `after` the operation has been carried out before.

    `LoseAnswer(op="run")` is the submit whose fate the client cannot know: the job was taken.
    """

    kind: Literal["lose_answer"] = "lose_answer"
    after: bool = True


class Answer(_FaultBase):
    """Answer with this status and body in place of the true one; with `after` the operation was carried out.

    `retry_after` goes out as the header of that name, in real seconds: `time_scale` does not change it. Without a
    `body` there is an error body as RunPod's.
    """

    kind: Literal["answer"] = "answer"
    status: int = Field(ge=200, le=599)
    body: str | None = None
    retry_after: float | None = Field(None, ge=0)
    after: bool = False


class Delay(_FaultBase):
    """Hold the answer back for so many simulated seconds; the operation itself happens at once."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(gt=0)


Fault = Annotated[LoseAnswer | Answer | Delay, Field(discriminator="kind")]

_FAULT: TypeAdapter[LoseAnswer | Answer | Delay] = TypeAdapter(Fault)


def parse_fault(data: object) -> LoseAnswer | Answer | Delay:
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

    reply: LoseAnswer | Answer | None = None
    delay_s: float = 0.0


@dataclass(slots=True)
class _Armed:
    number: int
    fault: LoseAnswer | Answer | Delay
    seen: int = 0
    struck: int = 0

    def strikes(self, op: Operation, remote_id: str | None, random: Random) -> bool:
        fault = self.fault
        if fault.op not in ("*", op) or (fault.remote_id is not None and fault.remote_id != remote_id):
            return False
        self.seen += 1
        if self.seen <= fault.skip or (fault.times is not None and self.struck >= fault.times):
            return False
        if fault.probability < 1 and random.random() >= fault.probability:
            return False
        self.struck += 1
        return True


@dataclass(slots=True)
class FaultPlan:
    """The faults of one endpoint, in the order in which they were set. The same seed and calls, the same strikes."""

    random: Random
    _armed: list[_Armed] = field(default_factory=list)
    _numbers: int = 0

    def add(self, fault: LoseAnswer | Answer | Delay) -> int:
        """Set one more fault; returns its number."""
        self._numbers += 1
        self._armed.append(_Armed(self._numbers, fault))
        return self._numbers

    def clear(self) -> None:
        """Take all faults away."""
        self._armed.clear()

    def view(self) -> list[FaultView]:
        return [FaultView(number=armed.number, fault=armed.fault, struck=armed.struck) for armed in self._armed]

    def strike(self, op: Operation, remote_id: str | None) -> Strike | None:
        """Decide one call. The first fault with a false answer wins; those after it do not see the call."""
        if not self._armed:
            return None
        delay = 0.0
        for armed in self._armed:
            if not armed.strikes(op, remote_id, self.random):
                continue
            if not isinstance(armed.fault, Delay):
                return Strike(armed.fault, delay)
            delay += armed.fault.seconds
        return Strike(delay_s=delay) if delay else None
