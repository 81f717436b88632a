"""Progress of a job, as RunPod takes it: at most one update a second, in order, and none after the end.

The SDK's own `progress_update` starts a thread for each call. Those overtake each other, and one that is late makes
a job that has ended IN_PROGRESS again (runpod-python#250). Here an update is sent from the job's own event loop,
after the one before it has arrived, and the last one has arrived before the result is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

__all__ = ["Reporter", "Send", "runpod_sender"]

#: Sends one update.
Send = Callable[[dict[str, Any]], Awaitable[None]]

_LONGEST_SEND_S = 5.0

log = logging.getLogger(__name__)


class Reporter:
    """Sends the newest of the updates that it is told. `percent` never goes back.

    `tell` returns at once; what is told within a second takes the place of what was told before. Make it in a running
    event loop, and close it before the job's result is returned.
    """

    def __init__(self, send: Send, every_s: float = 1.0) -> None:
        self._send = send
        self._every_s = every_s
        self._percent = 0.0
        self._latest: dict[str, Any] | None = None
        self._told = asyncio.Event()
        self._closed = asyncio.Event()
        self._loop = asyncio.create_task(self._run())

    @property
    def percent(self) -> float:
        """The highest percentage that was told."""
        return self._percent

    def tell(self, percent: float | None = None, message: str = "", **rest: Any) -> None:
        """Say how far the job is. What is None is left out; without a percentage the last one stands."""
        if self._closed.is_set():
            return
        if percent is not None:
            self._percent = max(self._percent, min(max(float(percent), 0.0), 100.0))
        update = {"percent": round(self._percent, 1), "message": message, **rest}
        self._latest = {name: value for name, value in update.items() if value is not None}
        self._told.set()

    async def close(self, *, at_once: bool = False) -> None:
        """Send nothing more. Waits for an update that is on its way, 5 seconds at most, unless `at_once`."""
        self._closed.set()
        self._told.set()
        if at_once:
            self._loop.cancel()
        await asyncio.wait([self._loop])

    async def _run(self) -> None:
        while True:
            await self._told.wait()
            if self._closed.is_set():
                return
            self._told.clear()
            update, self._latest = self._latest, None
            try:
                await asyncio.wait_for(self._send(update or {}), _LONGEST_SEND_S)
            except Exception as error:
                # Whatever it is: progress is a comfort, and no reason to fail.
                log.warning("a progress update was not sent: %s", type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), self._every_s)


def runpod_sender(job: dict[str, Any]) -> Send:
    """Sends updates of a job by the SDK's own call, awaited. Local runs without an endpoint send nothing."""
    http = import_module("runpod.serverless.modules.rp_http")
    client = import_module("runpod.http_client")

    async def send(update: dict[str, Any]) -> None:
        if not str(http.JOB_DONE_URL).startswith("http"):
            return
        # A session of its own: the SDK writes the job's id into the headers of the one it is given.
        async with client.AsyncClientSession() as session:
            await http.send_result(session, {"status": "IN_PROGRESS", "output": update}, job)

    return send
