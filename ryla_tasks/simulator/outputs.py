"""Outputs of ended jobs, made when somebody reads them."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .jobs import SimJob

__all__ = ["OutputShelf"]


class OutputShelf:
    """Renders outputs in a thread, so that no status call waits for a picture, and keeps the latest.

    A program's output is a function of its input, so one that has been pushed off the shelf is made again: ten
    thousand ended jobs hold at most `capacity` bytes of output.
    """

    def __init__(self, capacity: int = 64 * 1024 * 1024) -> None:
        # One thread: fonts are shared, and a simulator should leave the other cores to what it is there to test.
        self._pool = ThreadPoolExecutor(1, "ryla-simulator-render")
        self._capacity = capacity
        self._held = 0
        self._shelf: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._making: dict[tuple[str, int], asyncio.Future[bytes]] = {}

    async def read(self, job: SimJob, limit: int) -> bytes | None:
        """The job's output as JSON, or None where it has none or is over `limit` bytes."""
        render = job.execution.render if job.execution is not None else None
        if render is None or job.live:
            return None
        key = (job.id, job.runs)
        data = self._shelf.get(key)
        if data is None:
            data = await self._make(key, render)
        else:
            self._shelf.move_to_end(key)
        return data if len(data) <= limit else None

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _make(self, key: tuple[str, int], render: Callable[[], Any]) -> bytes:
        making = self._making.get(key)
        if making is None:
            making = asyncio.get_running_loop().run_in_executor(self._pool, _encode, render)
            self._making[key] = making
            making.add_done_callback(lambda done: self._shelve(key, done))
        # Shielded: several readers may wait for one rendering, and one of them may hang up.
        return await asyncio.shield(making)

    def _shelve(self, key: tuple[str, int], done: asyncio.Future[bytes]) -> None:
        del self._making[key]
        if done.cancelled() or done.exception() is not None:
            return
        self._shelf[key] = done.result()
        self._held += len(done.result())
        while self._held > self._capacity and len(self._shelf) > 1:
            _, dropped = self._shelf.popitem(last=False)
            self._held -= len(dropped)


def _encode(render: Callable[[], Any]) -> bytes:
    return json.dumps(render(), separators=(",", ":")).encode()
