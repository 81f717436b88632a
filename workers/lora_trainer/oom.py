"""Why AI Toolkit ended, from its exit code and the end of its log; for want of memory, what to change. Pure.

AI Toolkit skips up to three steps in a row that run out of memory, then gives up. So a line about a skipped step is no
failure; what counts is the error that it ended with.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.common.failures import JobFailure
from workers.lora_trainer.bars import parse_bar
from workers.lora_trainer.errors import TrainingFailed, TrainingMemory
from workers.lora_trainer.lines import without_secrets
from workers.lora_trainer.request import TrainingRequest

__all__ = ["LastError", "advice", "failure_of", "last_error"]

_RAISED = re.compile(r"(?:[A-Za-z_]\w{0,60}\.){0,8}([A-Z]\w{0,60}(?:Error|Exception|Interrupt|Exit))(?:: ?(.*))?\Z")
_REPORTED = re.compile(r"Error running job: (.*)\Z")
_NO_MEMORY = re.compile(
    r"\bout of memory\b|OOM during training step|CUBLAS_STATUS_ALLOC_FAILED|Allocation on device", re.IGNORECASE
)
#: What AI Toolkit prints of a failed job on the other stream.
_BANNER = re.compile(r"=+\Z|Result:| - \d+ |Error running job: ")
_MORE_LINES = 8
#: A GPU after which the next job would fail as well.
_BROKEN_GPU = re.compile(r"CUDA error:|no CUDA-capable device|NVIDIA driver|CUDA driver")
_TOLD_LINES = 30
_LONGEST = 1_000
_SMALLEST_SIDE = 512


@dataclass(frozen=True, slots=True)
class LastError:
    """The error that a log ends with: its class without the module, and its words."""

    kind: str = ""
    words: str = ""

    @property
    def is_memory(self) -> bool:
        """Whether there was too little GPU memory."""
        return self.kind == "OutOfMemoryError" or bool(_NO_MEMORY.search(self.words))


def last_error(lines: Sequence[str]) -> LastError:
    """The error that the log ends with. The words that AI Toolkit reports help where the traceback has none."""
    kind, words, reported = "", "", ""
    # A bar that was open is printed once more when the interpreter shuts down, behind the traceback.
    lines = [line for line in lines if parse_bar(line) is None]
    for at in range(len(lines) - 1, -1, -1):
        if raised := _RAISED.match(lines[at]):
            more = [line for line in lines[at + 1 : at + 1 + _MORE_LINES] if not _BANNER.match(line)]
            kind, words = raised[1], " ".join([raised[2] or "", *more]).strip()
            break
    for line in reversed(lines):
        if found := _REPORTED.match(line):
            reported = found[1]
            break
    return LastError(kind, without_secrets(words or reported)[:_LONGEST])


def failure_of(
    code: int, lines: Sequence[str], request: TrainingRequest, *, step: int, phase: str, gpu_gb: float | None = None
) -> JobFailure:
    """The failure that a run of AI Toolkit ended with. 0 comes here too: it then has written no LoRA."""
    error = last_error(lines) if code != 0 else LastError()
    changes = advice(request, phase) if error.is_memory else []
    # What helps comes first and the log last: who passes this on may cut it short.
    details: dict[str, Any] = {"change": changes} if error.is_memory else {}
    details |= {
        "step": step,
        "phase": phase,
        "exit_code": code,
        # Of these two the table of verdicts reads what a row of its own is for: a gated model, a full disk.
        "error_type": error.kind,
        "error_message": error.words,
        "gpu_gb": gpu_gb,
        "log": [without_secrets(line)[:_LONGEST] for line in lines[-_TOLD_LINES:]],
    }
    if error.is_memory:
        return TrainingMemory(_memory_sentence(changes), details)
    return TrainingFailed(_sentence(code, error), details, refresh=bool(_BROKEN_GPU.search(error.words)))


def _sentence(code: int, error: LastError) -> str:
    if code == 0:
        return "The training was stopped before its end."
    if code == -signal.SIGKILL:
        return "The training was killed; the machine may have run out of main memory."
    if code < 0:
        return f"The training broke off (signal {-code})."
    return f"The training failed: {error.kind or error.words[:200] or f'exit code {code}'}."


def _memory_sentence(changes: list[dict[str, Any]]) -> str:
    needs = "The training needs more GPU memory than there is."
    if not changes:
        return f"{needs} It needs a larger GPU."
    return f"{needs} Try {', or '.join(_words(change) for change in changes[:3])}."


def _words(change: dict[str, Any]) -> str:
    return f"{change['field']} {json.dumps(change['to'])} instead of {json.dumps(change['from'])}"


def advice(request: TrainingRequest, phase: str = "training") -> list[dict[str, Any]]:
    """What in the request would need less memory, what helps most first: `{"field", "from", "to"}`."""
    changes: list[dict[str, Any]] = []

    def change(field: str, old: Any, new: Any) -> None:
        changes.append({"field": field, "from": old, "to": new})

    if phase == "sampling" and request.sample_prompts:
        change("sample_prompts", len(request.sample_prompts), 0)
    if request.batch_size > 1:
        change("batch_size", request.batch_size, 1)
    sides = request.resolutions
    if sides[-1] > _SMALLEST_SIDE:
        change("resolution", sides, sides[:-1] or [_SMALLEST_SIDE])
    if request.quantize is False and request.base_model != "sdxl":
        change("quantize", False, True)
    if request.low_vram is not True:
        change("low_vram", bool(request.low_vram), True)
    if request.rank > 4:
        change("rank", request.rank, max(4, request.rank // 2))
    return changes
