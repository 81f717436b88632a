"""The GPU worker that the conformance suite expects at its endpoint: it answers with its input, and does what it says.

For a run against RunPod, make a queue endpoint (a CPU one is enough) from an image with this file and `runpod`, started
with `python handler.py`; and, for /stream, a second one started with `python handler.py stream`.

    input             what happens
    seconds           it waits so long before it answers
    progress          each item is reported with `progress_update`, 0.3 s apart
    raise             an exception with this text
    answer            its fields are added to the answer, so {"error": "..."} fails as a handler's own error
    chunks            (stream) each item is yielded, 0.2 s apart
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import runpod


async def handle(job: dict[str, Any]) -> dict[str, Any]:
    given = job["input"]
    for update in given.get("progress", ()):
        runpod.serverless.progress_update(job, update)
        await asyncio.sleep(0.3)
    await asyncio.sleep(given.get("seconds", 0))
    if "raise" in given:
        raise RuntimeError(given["raise"])
    return {"echo": given, **given.get("answer", {})}


async def stream(job: dict[str, Any]) -> AsyncIterator[Any]:
    for chunk in job["input"].get("chunks", ()):
        yield chunk
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1:] == ["stream"]:
        runpod.serverless.start({"handler": stream, "return_aggregate_stream": True})
    else:
        runpod.serverless.start({"handler": handle, "concurrency_modifier": lambda _: 4})
