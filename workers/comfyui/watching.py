"""One prompt, from its submit to its entry in ComfyUI's history, however often the WebSocket breaks.

The messages are for progress, the history is the truth: a prompt that ends while the socket is down is never told of
again, so the history is looked at after each reconnect, while there is no socket, and when a socket is silent.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from workers.comfyui.client import ComfyClient, ComfyGone
from workers.comfyui.progress import Tracker

__all__ = ["Watcher"]

_IDLE_S = 5.0
_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
_ENDS = frozenset({"execution_success", "execution_error", "execution_interrupted"})
_SOON_S = 10.0


class ComfyLost(ComfyGone):
    """ComfyUI answers, and knows nothing of the prompt: it is another one, started anew."""


class Watcher:
    """Waits for a prompt. `is_alive` tells whether the ComfyUI that took it still runs, as far as anybody knows.

    `on_progress` is called after each message that tells something. `silent_s`: how long ComfyUI may not answer before
    it counts as dead, where it is not known to be.
    """

    def __init__(
        self,
        client: ComfyClient,
        tracker: Tracker,
        prompt_id: str,
        client_id: str,
        *,
        is_alive: Callable[[], bool],
        on_progress: Callable[[], None],
        silent_s: float,
    ) -> None:
        self._client = client
        self._tracker = tracker
        self._prompt_id = prompt_id
        self._client_id = client_id
        self._is_alive = is_alive
        self._on_progress = on_progress
        self._silent_s = silent_s
        self._heard = time.monotonic()

    async def run(self, submit: Callable[[], Any]) -> dict[str, Any]:
        """Connect, submit, and wait. Returns the entry in the history. Raises `ComfyGone` and what `submit` raises.

        The socket is there before the prompt, so no message is missed.
        """
        submitted, failures = False, 0
        while True:
            try:
                async with self._client.messages(self._client_id) as socket:
                    self._heard, failures = time.monotonic(), 0
                    if not submitted:
                        await submit()
                        submitted = True
                    elif (entry := await self._ended()) is not None:
                        return entry
                    if (entry := await self._listen(socket)) is not None:
                        return entry
            except ComfyLost:
                raise
            except ComfyGone:
                if not submitted:
                    raise
            if (entry := await self._ask()) is not None:
                return entry
            await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
            failures += 1

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | None:
        """Take messages until the prompt has ended, or the socket (None)."""
        while True:
            try:
                message = await socket.receive(timeout=_IDLE_S)
            except TimeoutError:
                if (entry := await self._ended()) is not None:
                    return entry
                continue
            self._heard = time.monotonic()
            if message.type is aiohttp.WSMsgType.TEXT:
                if self._took_end(message.data):
                    return await self._entry_soon()
            elif message.type is not aiohttp.WSMsgType.BINARY:
                return None

    def _took_end(self, text: str) -> bool:
        try:
            message = json.loads(text)
        except ValueError:
            return False
        if not isinstance(message, dict) or not isinstance(message.get("data"), dict):
            return False
        if self._tracker.feed(message):
            self._on_progress()
        data = message["data"]
        if data.get("prompt_id") != self._prompt_id:
            return False
        return message["type"] in _ENDS or (message["type"] == "executing" and data.get("node", "") is None)

    async def _entry_soon(self) -> dict[str, Any]:
        """ComfyUI tells of the end before it writes the history."""
        deadline = time.monotonic() + _SOON_S
        while time.monotonic() < deadline:
            if (entry := await self._client.history(self._prompt_id)) is not None:
                return entry
            await asyncio.sleep(0.05)
        raise ComfyLost("ended, but not in the history")

    async def _ask(self) -> dict[str, Any] | None:
        """Ask without a socket. One that does not answer may be busy for a while, unless it is known to be dead."""
        try:
            entry = await self._ended()
        except ComfyLost:
            raise
        except ComfyGone:
            if not self._is_alive() or time.monotonic() - self._heard > self._silent_s:
                raise
            return None
        self._heard = time.monotonic()
        return entry

    async def _ended(self) -> dict[str, Any] | None:
        """The entry in the history, None while the prompt runs or waits. Neither: this ComfyUI does not know it."""
        if (entry := await self._client.history(self._prompt_id)) is not None:
            return entry
        if await self._client.is_queued(self._prompt_id):
            return None
        if (entry := await self._client.history(self._prompt_id)) is not None:
            return entry
        raise ComfyLost("neither in the queue nor in the history")
