"""What a lost worker leaves behind on the volume, and how the next one goes on from there.

    lora_trainer/JOB/about.json                     what the training was asked for, as a fingerprint
    lora_trainer/JOB/step_000000250.safetensors     the newest checkpoints, each whole
    lora_trainer/JOB/optimizer.pt                   the optimizer's state at about the newest one
    lora_trainer/JOB/done.json                      the training is over; its LoRA is in models/loras

The trainer works on the container's own disk, and only whole files are put here: SQLite's log does not like network
volumes, and two workers that train the same job, because RunPod has given up on one that still runs, do no harm.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.lora_trainer.files import copy_whole, read_json, write_json
from workers.lora_trainer.tensors import read_header

__all__ = ["Finished", "Kept", "sweep"]

_ROOT = "lora_trainer"
_LORAS = Path("models") / "loras"
_STEP = re.compile(r"step_(\d{9})\.safetensors\Z")
_CHECKPOINTS = 2
_OPTIMIZER = "optimizer.pt"


@dataclass(frozen=True, slots=True)
class Finished:
    """A training that was over before: its LoRA, and what was noted of it."""

    lora: Path
    steps: int
    final_loss: float | None


class Kept:
    """The folder of one job on the volume. All of it blocks; run it in a thread."""

    def __init__(self, volume: Path, folder: str, fingerprint: str) -> None:
        self._volume = volume
        self._folder = volume / _ROOT / folder
        self._fingerprint = fingerprint

    def open(self) -> None:
        """Make the folder. What is left there of another request goes: its checkpoints are of another LoRA."""
        if read_json(self._folder / "about.json").get("fingerprint") != self._fingerprint:
            shutil.rmtree(self._folder, ignore_errors=True)
        # Written each time: the sweep goes by its age.
        write_json(self._folder / "about.json", {"fingerprint": self._fingerprint, "at": time.time()})

    def lora(self, name: str) -> Path:
        """Where ComfyUI finds the LoRA of a run."""
        return self._volume / _LORAS / f"{name}.safetensors"

    def samples(self) -> Path:
        """Where samples go that cannot be stored elsewhere."""
        return self._folder / "samples"

    def restore(self, output: Path, name: str) -> tuple[str, int]:
        """Put the newest checkpoint where AI Toolkit will find it: its file name there, and the step it is at.

        ("", 0) where there is none. One that is not whole is passed over: AI Toolkit would take it, and fail.
        """
        for path in sorted(self._checkpoints(), reverse=True):
            header = read_header(path)
            if header is None:
                continue
            number = _STEP.fullmatch(path.name)
            target = output / f"{name}_{number[1] if number else '000000000'}.safetensors"
            copy_whole(path, target)
            with contextlib.suppress(OSError):
                copy_whole(self._folder / _OPTIMIZER, output / _OPTIMIZER)
            return target.name, header.step or 0
        return "", 0

    def keep(self, checkpoint: Path, step: int) -> None:
        """Keep a whole checkpoint, and of the older ones the newest."""
        copy_whole(checkpoint, self._folder / f"step_{step:09}.safetensors")
        for old in sorted(self._checkpoints())[:-_CHECKPOINTS]:
            old.unlink(missing_ok=True)

    def keep_optimizer(self, state: Path) -> None:
        """Keep the optimizer's state."""
        copy_whole(state, self._folder / _OPTIMIZER)

    def finish(self, lora: Path, facts: dict[str, Any]) -> None:
        """Note that the training is over, and let go of what was only for going on."""
        noted = {"fingerprint": self._fingerprint, "file": lora.name, "bytes": lora.stat().st_size, **facts}
        write_json(self._folder / "done.json", noted)
        for path in [*self._checkpoints(), self._folder / _OPTIMIZER]:
            path.unlink(missing_ok=True)

    def finished(self) -> Finished | None:
        """The training that was over before; None where its LoRA is not there, or not as it was."""
        noted = read_json(self._folder / "done.json")
        if noted.get("fingerprint") != self._fingerprint or not isinstance(noted.get("file"), str):
            return None
        lora = self._volume / _LORAS / Path(noted["file"]).name
        header = read_header(lora)
        if header is None or header.bytes != noted.get("bytes"):
            return None
        loss = noted.get("final_loss")
        return Finished(lora, int(noted.get("steps") or 0), loss if isinstance(loss, float) else None)

    def _checkpoints(self) -> list[Path]:
        return [path for path in self._folder.glob("step_*.safetensors") if _STEP.fullmatch(path.name)]


def sweep(volume: Path, keep_days: float) -> int:
    """Remove the folders of jobs that nobody has worked on for so long; how many. Blocks."""
    before = time.time() - keep_days * 86_400
    gone = 0
    for folder in (volume / _ROOT).glob("*/"):
        with contextlib.suppress(OSError):
            about = folder / "about.json"
            if (about if about.exists() else folder).stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)
                gone += 1
    return gone
