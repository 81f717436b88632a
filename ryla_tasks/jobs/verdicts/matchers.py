"""What a row of the verdict table is matched by: a type where the source has one, words only where it has nothing else.

A matcher's `str()` is what the documentation says of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from ryla_tasks.errors import ProviderError
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.verdicts.failures import Absence, Absent, Failure, Refused, RemoteEnded, StatusFailed, SubmitLost
from ryla_tasks.jobs.verdicts.report import NodeFault, Report

__all__ = ["AnyOf", "AtNode", "Called", "Coded", "ComfyUI", "Ended", "Gone", "Matcher", "Raised", "Says", "Told"]


class Matcher(Protocol):
    """Tells whether a row is about a failure. `report` is empty unless a worker said something."""

    def matches(self, failure: Failure, report: Report) -> bool: ...


@dataclass(frozen=True, slots=True)
class Called:
    """A call to RunPod went wrong, with one of these errors (none of them: whatever happened)."""

    seam: type[Refused] | type[SubmitLost] | type[StatusFailed]
    errors: tuple[type[ProviderError], ...] = ()
    http_status: int | None = None

    def matches(self, failure: Failure, _report: Report) -> bool:
        if not isinstance(failure, (Refused, SubmitLost, StatusFailed)) or not isinstance(failure, self.seam):
            return False
        if self.http_status is not None and (failure.error is None or failure.error.http_status != self.http_status):
            return False
        return not self.errors or isinstance(failure.error, self.errors)

    def __str__(self) -> str:
        rest = "no whole answer, or the process is gone" if self.seam is SubmitLost else "any other error"
        names = " or ".join(f"`{kind.__name__}`" for kind in self.errors) or rest
        return names if self.http_status is None else f"{names} with HTTP {self.http_status}"


@dataclass(frozen=True, slots=True)
class Gone:
    """The endpoint answers 404 for the job."""

    why: Absence
    when: str

    def matches(self, failure: Failure, _report: Report) -> bool:
        return isinstance(failure, Absent) and failure.why is self.why

    def __str__(self) -> str:
        return f"404, {self.when}"


@dataclass(frozen=True, slots=True)
class Ended:
    """The remote job has this status, whatever its worker said."""

    status: RemoteStatus

    def matches(self, failure: Failure, _report: Report) -> bool:
        return isinstance(failure, RemoteEnded) and failure.job.status is self.status

    def __str__(self) -> str:
        return f"status `{self.status}`"


@dataclass(frozen=True, slots=True)
class Raised:
    """The worker's exception is of a class with one of these names."""

    names: frozenset[str]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", frozenset(names))

    def matches(self, _failure: Failure, report: Report) -> bool:
        return report.exception in self.names

    def __str__(self) -> str:
        return "exception " + " or ".join(f"`{name}`" for name in sorted(self.names))


@dataclass(frozen=True, slots=True)
class Coded:
    """The worker has this word for it: what the workers of this repository give back as `code`."""

    code: str

    def matches(self, _failure: Failure, report: Report) -> bool:
        return report.code == self.code

    def __str__(self) -> str:
        return f"worker's code `{self.code}`"


@dataclass(frozen=True, slots=True)
class ComfyUI:
    """ComfyUI's `error.type`, or the type of its message, is one of these."""

    types: frozenset[str]

    def __init__(self, *types: str) -> None:
        object.__setattr__(self, "types", frozenset(types))

    def matches(self, _failure: Failure, report: Report) -> bool:
        return report.comfy in self.types

    def __str__(self) -> str:
        return "ComfyUI says " + " or ".join(f"`{name}`" for name in sorted(self.types))


_MODEL_ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
_IMAGE_LOADERS = frozenset({"LoadImage", "LoadImageMask", "LoadImageOutput"})


@dataclass(frozen=True, slots=True)
class AtNode:
    """ComfyUI's `node_errors` have one of this kind (empty: any), about a model file or an input image if so said."""

    kind: str = ""
    model: bool = False
    image: bool = False

    def matches(self, _failure: Failure, report: Report) -> bool:
        return any(self._is(fault) for fault in report.nodes if fault.kind)

    def _is(self, fault: NodeFault) -> bool:
        if self.kind and fault.kind != self.kind:
            return False
        if self.image and fault.class_type not in _IMAGE_LOADERS:
            return False
        return not self.model or (isinstance(fault.value, str) and fault.value.lower().endswith(_MODEL_ENDINGS))

    def __str__(self) -> str:
        about = " for a model file" if self.model else " at a LoadImage node" if self.image else ""
        return f"`node_errors` with {f'`{self.kind}`' if self.kind else 'any type'}{about}"


@dataclass(frozen=True, slots=True)
class Says:
    """The worker's text holds these words; for sources that have nothing but words. `words` is shown to the reader."""

    pattern: str
    words: str
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", re.compile(self.pattern, re.IGNORECASE | re.MULTILINE))

    def matches(self, _failure: Failure, report: Report) -> bool:
        return self._compiled.search(report.text) is not None

    def __str__(self) -> str:
        return f'text "{self.words}"'


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of these."""

    matchers: tuple[Matcher, ...]

    def __init__(self, *matchers: Matcher) -> None:
        object.__setattr__(self, "matchers", matchers)

    def matches(self, failure: Failure, report: Report) -> bool:
        return any(matcher.matches(failure, report) for matcher in self.matchers)

    def __str__(self) -> str:
        return "; or ".join(str(matcher) for matcher in self.matchers)


@dataclass(frozen=True, slots=True)
class Told:
    """Anything else that a worker reports, or its silence."""

    def matches(self, failure: Failure, _report: Report) -> bool:
        return not isinstance(failure, (Refused, SubmitLost, StatusFailed, Absent))

    def __str__(self) -> str:
        return "anything else"
