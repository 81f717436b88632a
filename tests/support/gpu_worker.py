"""GPU workers as people write them for RunPod: `python gpu_worker.py KIND` starts one on the unmodified SDK."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import runpod


async def handle(job: dict[str, Any]) -> Any:
    """Does what its input says."""
    given = job["input"]
    for update in given.get("progress", ()):
        runpod.serverless.progress_update(job, update)
        await asyncio.sleep(0.3)  # the SDK sends each from a thread of its own, in any order
    await asyncio.sleep(given.get("seconds", 0))
    if "raise" in given:
        raise RuntimeError(given["raise"])
    if "bytes" in given:
        return {"data": "x" * given["bytes"]}
    return {"echo": given, "pid": os.getpid(), **given.get("answer", {})}


def handle_in_line(job: dict[str, Any]) -> Any:
    """Blocks the SDK's event loop, as a plain function does."""
    time.sleep(job["input"].get("seconds", 0))
    return {"pid": os.getpid()}


async def handle_in_chunks(job: dict[str, Any]) -> AsyncIterator[Any]:
    for chunk in job["input"]["chunks"]:
        yield chunk
        await asyncio.sleep(0.2)


CONFIGS: dict[str, dict[str, Any]] = {
    "async": {"handler": handle},
    "sync": {"handler": handle_in_line},
    "stream": {"handler": handle_in_chunks, "return_aggregate_stream": True},
    "many": {"handler": handle, "concurrency_modifier": lambda _: 3},
    "refresh": {"handler": handle, "refresh_worker": True},
}

if __name__ == "__main__":
    runpod.serverless.start(CONFIGS[sys.argv.pop(1)])
