"""What goes wrong, and when: a fault programme."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ..errors import ConfigurationError
from .faults import AnyFault, Fault

__all__ = ["FaultProgramme", "Phase"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) *(ms|s|m|h)")


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("a time is a number of seconds, or a number with ms, s, m or h, like 90s")
    return float(match[1]) * _SECONDS[match[2]]


_Time = Annotated[float, Field(ge=0), BeforeValidator(_seconds)]


class Phase(BaseModel):
    """Faults that act from one simulated time up to another, counted from the programme's start.

    In a phase a fault has no limit of `times` unless it gives one: the phase is its limit. Without `to` it goes on for
    ever, without an `endpoint` it is for all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_s: _Time = Field(0.0, alias="from")
    to_s: _Time | None = Field(None, alias="to")
    endpoint: str | None = None
    faults: tuple[Fault, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _times_in_order(self) -> Self:
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ValueError(f"`to` ({self.to_s:g} s) is not after `from` ({self.from_s:g} s)")
        return self

    @field_validator("faults")
    @classmethod
    def _no_limit_but_the_phase(cls, faults: tuple[AnyFault, ...]) -> tuple[AnyFault, ...]:
        return tuple(
            fault if "times" in fault.model_fields_set else fault.model_copy(update={"times": None}) for fault in faults
        )


class FaultProgramme(BaseModel):
    """Phases over simulated time. With a `seed` its chances are its own; else they come from the simulator's seed.

    The same seed and the same calls at the same times make the same strikes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int | None = None
    phases: tuple[Phase, ...] = ()

    def phases_of(self, endpoint_id: str) -> Iterator[Phase]:
        """The phases that are for an endpoint."""
        return (phase for phase in self.phases if phase.endpoint in (None, endpoint_id))

    def check(self, endpoint_ids: Collection[str]) -> None:
        """Raise `ConfigurationError` for a phase whose endpoint is not there: it would never strike."""
        for number, phase in enumerate(self.phases):
            if phase.endpoint is not None and phase.endpoint not in endpoint_ids:
                known = ", ".join(sorted(endpoint_ids)) or "none"
                field = f"phases.{number}.endpoint"
                raise ConfigurationError(f"{field}: there is no endpoint {phase.endpoint!r}; there are: {known}", field)
