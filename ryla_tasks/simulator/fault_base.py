"""What all faults have in common: which of the cases that they are for they strike."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FaultBase"]


class FaultBase(BaseModel):
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
