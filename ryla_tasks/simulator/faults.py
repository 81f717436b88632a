"""What can be made to go wrong with the answers of an endpoint, on purpose and repeatably."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, field_validator

from .fault_base import FaultBase
from .job_faults import CrashWorker, DropOutput, ExpireResult, FailStart, LateProgress, NeverEnd, TruncateOutput
from .operations import Operation, WorkerOperation

__all__ = [
    "Answer",
    "AnyFault",
    "CallFault",
    "CallWebhook",
    "CutAnswer",
    "Delay",
    "EndFault",
    "FalseAnswer",
    "Fault",
    "FaultView",
    "LoseAnswer",
    "Outdated",
    "Reset",
    "RunFault",
    "Strike",
    "parse_fault",
]


class CallFault(FaultBase):
    """A fault of the calls of one operation, or of all."""

    op: Operation | WorkerOperation | Literal["*"] = "*"
    """"*" is every operation of a client; those of joined workers are struck by their name only."""

    @field_validator("op", mode="before")
    @classmethod
    def _known(cls, op: Any) -> Any:
        known = ["*", *Operation, *WorkerOperation]
        if op not in known:
            raise ValueError(f"there is no operation {op!r}; there are: {', '.join(known)}")
        return op


class LoseAnswer(CallFault):
    """Close the connection without an answer; with `after` the operation has been carried out before.

    `LoseAnswer(op="run")` is the submit whose fate the client cannot know: the job was taken.
    """

    kind: Literal["lose_answer"] = "lose_answer"
    after: bool = True


class Answer(CallFault):
    """Answer with this status and body in place of the true one; with `after` the operation was carried out.

    `retry_after` goes out as the header of that name, in real seconds: `time_scale` does not change it. Without a
    `body` there is an error body as RunPod's.
    """

    kind: Literal["answer"] = "answer"
    status: int = Field(ge=200, le=599)
    body: str | None = None
    retry_after: float | None = Field(None, ge=0)
    after: bool = False


class Delay(CallFault):
    """Hold the answer back for so many simulated seconds; the operation itself happens at once."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(gt=0)


class Reset(CallFault):
    """Break the connection off (TCP reset); with `after` the operation has been carried out before."""

    kind: Literal["reset"] = "reset"
    after: bool = True


class CutAnswer(CallFault):
    """Close the connection half way through the answer's body; the operation is carried out."""

    kind: Literal["cut_answer"] = "cut_answer"


class Outdated(FaultBase):
    """Answer a status call about a job that has ended as if it still ran: IN_PROGRESS, with its progress at
    `fraction` of the run. That is what comes of an answer that was overtaken, or of a copy that is behind. Other calls
    pass and do not count."""

    kind: Literal["outdated"] = "outdated"
    fraction: float = Field(0.5, ge=0, le=1)


class CallWebhook(FaultBase):
    """Call a job's webhook so many `times_each`, `apart_s` simulated seconds from each other, the first `after_s` late;
    0 loses it. Each call has the usual tries. What counts as a call here is a job's end."""

    kind: Literal["call_webhook"] = "call_webhook"
    times_each: int = Field(2, ge=0, le=10)
    apart_s: float = Field(0.0, ge=0)
    after_s: float = Field(0.0, ge=0)


FalseAnswer = LoseAnswer | Answer | Reset | CutAnswer | Outdated
RunFault = CrashWorker | NeverEnd
EndFault = TruncateOutput | DropOutput | ExpireResult | LateProgress
AnyFault = FalseAnswer | Delay | CallWebhook | RunFault | EndFault | FailStart

Fault = Annotated[AnyFault, Field(discriminator="kind")]

_FAULT: TypeAdapter[AnyFault] = TypeAdapter(Fault)


def parse_fault(data: object) -> AnyFault:
    """Read one fault from plain data; raises pydantic's `ValidationError`."""
    return _FAULT.validate_python(data)


class FaultView(BaseModel):
    """A fault that was set, and how often it has struck. It acts from `from_s` up to `to_s`, on the clock of all."""

    number: int
    fault: Fault
    struck: int
    from_s: float = 0.0
    to_s: float | None = None


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens to one call: at most one false answer, and the delays together."""

    reply: FalseAnswer | None = None
    delay_s: float = 0.0

    @property
    def carried_out(self) -> bool:
        """Whether the operation happens all the same."""
        return not isinstance(self.reply, LoseAnswer | Answer | Reset) or self.reply.after
