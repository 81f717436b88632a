"""RunPod's SDK, started as our workers want it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

__all__ = ["start_sdk"]


def start_sdk(config: dict[str, Any]) -> None:
    """Take jobs until RunPod ends the worker. Returns then, or not at all.

    Unless `RUNPOD_LOG_LEVEL` or `RUNPOD_DEBUG_LEVEL` says otherwise the SDK logs from INFO on. By itself it logs from
    DEBUG on, which writes each result, presigned URLs and files in base64 included, into the log, twice.
    """
    # The SDK reads its variables when it is imported, and has no types.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", os.environ.get("RUNPOD_DEBUG_LEVEL") or "INFO")
    import_module("runpod").serverless.start(config)
