"""Wakes all who wait at once."""

from __future__ import annotations

import asyncio

__all__ = ["Bell"]


class Bell:
    """Rung when something may have changed; who waits looks again. Waiters wake in the order in which they came."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def ring(self) -> None:
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def wait(self, seconds: float) -> None:
        """Until the next ring, at most so many real seconds."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._next,), timeout=seconds)
