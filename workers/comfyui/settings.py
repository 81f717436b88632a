"""What the environment says about this worker. README.md has the table."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]

_MB = 1_000_000
_URL = "http://127.0.0.1:8188"


@dataclass(frozen=True, slots=True)
class Settings:
    """`command` starts ComfyUI; empty where something else does. `folder` is ComfyUI's own, None where it is far."""

    url: str = _URL
    command: tuple[str, ...] = ()
    folder: Path | None = None
    volume: Path = Path("/runpod-volume")
    start_s: float = 600.0
    most_restarts: int = 2
    deadline_s: float = 1_800.0
    silent_s: float = 60.0
    stop_s: float = 20.0
    progress_s: float = 1.0
    most_answer_bytes: int = 19 * _MB
    most_image_bytes: int = 30 * _MB
    most_images: int = 20
    most_model_bytes: int = 30_000 * _MB
    detector: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Raises `ValueError` naming the variable that makes no sense."""
        env = os.environ if env is None else env
        folder = env.get("COMFYUI_DIR", "").strip()
        return cls(
            url=env.get("COMFY_URL", "").strip().rstrip("/") or _URL,
            command=tuple(shlex.split(env.get("COMFY_COMMAND", ""))),
            folder=Path(folder) if folder else None,
            volume=Path(env.get("RYLA_VOLUME", "").strip() or "/runpod-volume"),
            start_s=_number(env, "COMFY_START_S", 600.0),
            most_restarts=int(_number(env, "COMFY_MOST_RESTARTS", 2)),
            deadline_s=_number(env, "RYLA_WORKER_DEADLINE_S", 1_800.0),
            silent_s=_number(env, "COMFY_SILENT_S", 60.0),
            stop_s=_number(env, "COMFY_STOP_S", 20.0),
            progress_s=_number(env, "RYLA_WORKER_PROGRESS_S", 1.0),
            most_answer_bytes=int(_number(env, "RYLA_WORKER_MOST_ANSWER_MB", 19) * _MB),
            most_image_bytes=int(_number(env, "RYLA_WORKER_MOST_IMAGE_MB", 30) * _MB),
            most_images=int(_number(env, "RYLA_WORKER_MOST_IMAGES", 20)),
            most_model_bytes=int(_number(env, "RYLA_WORKER_MOST_MODEL_MB", 30_000) * _MB),
            detector=env.get("RYLA_FACE_DETECTOR", "").strip(),
        )

    @property
    def models(self) -> Path | None:
        """Where model files that a job brings along are kept: on the volume, else beside ComfyUI's own."""
        if self.volume.is_dir():
            return self.volume / "models"
        return self.folder / "models" if self.folder is not None else None


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        raise ValueError(f"{name} is not a number") from None
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} is not a number that makes sense")
    return value
