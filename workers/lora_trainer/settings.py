"""What the trainer's environment says. Every variable is in the README."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]

_MB = 1_000_000


@dataclass(frozen=True)
class Settings:
    """Where things are, and the limits. Times are seconds. `volume` is None where no network volume is attached."""

    toolkit: Path = Path("/app/ai-toolkit")
    python: str = sys.executable
    volume: Path | None = None
    work: Path = Path("/tmp/lora_trainer")  # noqa: S108 - the container is the job's own
    time_limit_s: float = 4 * 3600
    dataset_s: float = 30 * 60
    quiet_s: float = 45 * 60
    stop_s: float = 10.0
    poll_s: float = 1.0
    progress_s: float = 1.0
    keep_days: float = 7.0
    gpu_gb: float | None = None
    most_image_bytes: int = 50 * _MB
    most_dataset_bytes: int = 2_000 * _MB
    most_images: int = 500

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process. `ValueError` names the variable that makes no sense."""
        env = os.environ if env is None else env
        read = _Reader(env)
        # RunPod mounts the volume there; where there is none, there is no such folder.
        volume = Path(env.get("RYLA_VOLUME", "").strip() or "/runpod-volume")
        return cls(
            toolkit=Path(env.get("RYLA_TRAINER_TOOLKIT") or cls.toolkit),
            python=env.get("RYLA_TRAINER_PYTHON") or sys.executable,
            volume=volume if volume.is_dir() else None,
            work=Path(env.get("RYLA_TRAINER_WORK") or cls.work),
            time_limit_s=read.number("TIME_LIMIT_S", cls.time_limit_s),
            dataset_s=read.number("DATASET_S", cls.dataset_s),
            quiet_s=read.number("QUIET_S", cls.quiet_s),
            stop_s=read.number("STOP_S", cls.stop_s),
            poll_s=read.number("POLL_S", cls.poll_s),
            progress_s=read.number("PROGRESS_S", cls.progress_s),
            keep_days=read.number("KEEP_DAYS", cls.keep_days),
            gpu_gb=read.number("GPU_GB", 0.0) or None,
            most_image_bytes=int(read.number("MOST_IMAGE_MB", cls.most_image_bytes / _MB) * _MB),
            most_dataset_bytes=int(read.number("MOST_DATASET_MB", cls.most_dataset_bytes / _MB) * _MB),
            most_images=int(read.number("MOST_IMAGES", cls.most_images)),
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    env: Mapping[str, str]

    def number(self, name: str, default: float) -> float:
        text = self.env.get(f"RYLA_TRAINER_{name}", "").strip()
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise ValueError(f"RYLA_TRAINER_{name} must be a number, not {text!r}")
        return value
