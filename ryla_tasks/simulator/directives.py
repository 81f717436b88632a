"""What a job may ask of the simulator, under `input.simulate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["DirectiveError", "Directives"]


class DirectiveError(ValueError):
    """`input.simulate` is not understood; says which field and why."""


class Directives(BaseModel):
    """Steers one job. A real GPU worker would ignore all of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float | None = Field(None, ge=0)
    """How long it runs, in simulated seconds."""
    steps: int | None = Field(None, ge=0)
    """How many steps its progress counts; 0 reports none."""
    never_end: bool = False
    """Runs until it is cancelled or times out."""
    fail: str | None = None
    """Ends FAILED with this `error`."""
    fail_runs: int | None = Field(None, ge=1)
    """`fail` only in its first so many runs, so that /retry can succeed; all by default."""
    fail_output: Any = None
    """What a failed job has as `output` besides (a handler that returns `{"error": ..., **rest}`)."""
    crash: int = Field(0, ge=0)
    """How many of its first runs end with the death of the worker (True is 1)."""
    crash_after_s: float | None = Field(None, ge=0)
    """When in a run the worker dies; half way by default."""
    output: Any = None
    """Its output, in place of the program's."""
    output_bytes: int | None = Field(None, ge=0)
    """An output that is `{"data": "xxx..."}` with so many characters."""
    no_output: bool = False
    """Ends COMPLETED without `output`."""
    chunks: tuple[Any, ...] = ()
    """What /stream shows, spread evenly over the run."""

    legacy_message: bool = False
    """Image: answer as worker-comfyui before v5 did, `{"message": base64, "status": "success"}`."""
    data_uri: bool = False
    """Image: data as `data:image/png;base64,...`."""
    truncate: bool = False
    """Image: cut each file off half way."""
    drop_images: int = Field(0, ge=0)
    """Image: leave out so many of the images asked for."""
    errors: tuple[str, ...] = ()
    """Image: the `errors` list of worker-comfyui v5."""

    @classmethod
    def read(cls, job_input: Mapping[str, Any]) -> Directives:
        """The directives in a job's input; raises `DirectiveError`."""
        data = job_input.get("simulate")
        if data is None:
            return _NONE
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(["simulate", *(str(part) for part in first["loc"])])
            raise DirectiveError(f"{field}: {first['msg']}") from error


_NONE = Directives()
