"""A program that answers as our LoRA trainer does: steps and loss as progress, and a small LoRA file that is one."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from ..config import EndpointConfig
from ..directives import Directives
from .base import ProgramError, Work

__all__ = ["Lora"]

_FEWEST_IMAGES = 3


class Lora:
    """Trains nothing. Takes what the trainer takes, runs `run_s`, and gives a safetensors file of a few hundred bytes.

    Output: `{"lora": {"filename", "type": "base64", "data", "sha256", "bytes"}, "steps", "final_loss", "base_model",
    "trigger_word"}`; the real worker gives a URL, which a laptop cannot.
    """

    def prepare(self, job_input: Mapping[str, Any], directives: Directives, config: EndpointConfig) -> Work:  # noqa: ARG002
        trigger, images = job_input.get("trigger_word"), job_input.get("images")
        if not isinstance(trigger, str) or not trigger:
            raise ProgramError("trigger_word: is missing")
        if not job_input.get("dataset_url") and (not isinstance(images, list) or len(images) < _FEWEST_IMAGES):
            raise ProgramError(f"images: at least {_FEWEST_IMAGES} images are needed")
        steps = job_input.get("steps")
        count = steps if isinstance(steps, int) and steps > 0 else 2_000
        return Work(lambda: _answer(job_input, trigger, count), config.run_s, count, "training", _report)


def _report(step: int, steps: int) -> dict[str, Any]:
    return {"message": f"Training: step {step} of {steps}", "loss": round(_loss(step / steps), 4)}


def _loss(fraction: float) -> float:
    """A curve as trainings have it."""
    return 0.08 + 0.32 * math.exp(-4 * fraction)


def _answer(job_input: Mapping[str, Any], trigger: str, steps: int) -> dict[str, Any]:
    about = job_input.get("ryla")
    name = about.get("correlation_id") if isinstance(about, Mapping) else None
    data = _safetensors(trigger, steps)
    return {
        "lora": {
            "filename": f"{name or 'lora'}.safetensors",
            "type": "base64",
            "data": base64.b64encode(data).decode("ascii"),
            "sha256": sha256(data).hexdigest(),
            "bytes": len(data),
            "kind": "lora",
        },
        "files": [],
        "steps": steps,
        "final_loss": round(_loss(1.0), 4),
        "base_model": job_input.get("base_model", "flux"),
        "trigger_word": trigger,
    }


def _safetensors(trigger: str, steps: int) -> bytes:
    """A valid file with two small tensors: a length, a JSON header, the numbers."""
    tensors = {"lora_unet_simulated.lora_down.weight": (4, 8), "lora_unet_simulated.lora_up.weight": (8, 4)}
    header: dict[str, Any] = {"__metadata__": {"ss_output_name": "simulated", "trigger": trigger, "steps": str(steps)}}
    body = b""
    for name, shape in tensors.items():
        numbers = struct.pack(f"<{shape[0] * shape[1]}f", *(0.01 * place for place in range(shape[0] * shape[1])))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(numbers)]}
        body += numbers
    head = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(head)) + head + body
