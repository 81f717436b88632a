"""One reader for all streams of a process: it reads the events of all their jobs at once, and hands them out.

A stream that read Redis by itself would hold a connection for as long as somebody looks at a page, and read what every
other page of that job reads too. What a stream misses here costs it nothing but time: it reads its job's events by
itself when it begins, and again after each silence.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import redis
from celery import Celery
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable
from ryla_tasks.store.events import START, Event, events_in
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["Bell", "Ear", "bell_of"]

#: A job that is new to the bell is heard after so long at the latest.
_BLOCK_MS = 500
_AWAY_S = 1.0


class Ear:
    """Hears of one job. For a thread (`wait`), or, made with a loop, for asyncio (`heard`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._rung = threading.Event()
        self._heard = asyncio.Event()
        self._events: deque[Event] = deque()
        #: Its owner has read what was there before it was added. What is heard goes on from there.
        self.caught_up = False

    def wait(self, seconds: float) -> None:
        """Wait for a ring, for so long at the most."""
        self._rung.wait(seconds)
        self._rung.clear()

    async def heard(self, seconds: float) -> None:
        """The same in asyncio."""
        try:
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()

    def take(self, after: str) -> list[Event]:
        """What was heard since the last time, without what stands at or before a position; nothing before its owner has
        caught up."""
        heard: list[Event] = []
        while self.caught_up and self._events:
            event = self._events.popleft()
            if _order(event.position) > _order(after):
                heard.append(event)
        return heard

    def ring(self, events: Sequence[Event] = ()) -> None:
        """There is news, or there may be."""
        self._events.extend(events)
        if self._loop is None:
            self._rung.set()
            return
        try:
            self._loop.call_soon_threadsafe(self._heard.set)
        except RuntimeError:
            return  # its loop is closed: nobody waits any more


class Bell:
    """Tells the ears of a job what is added to its stream."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._lock = threading.Lock()
        self._ears: dict[str, set[Ear]] = defaultdict(set)
        self._positions: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    def add(self, job_id: str, ear: Ear) -> None:
        """Ring this ear for everything that is added to the job's stream from now on; what was added before is for its
        owner to read, after this. Raises `StoreUnavailable`."""
        last = self._last(job_id)
        with self._lock:
            self._positions.setdefault(job_id, last)
            self._ears[job_id].add(ear)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ryla-bell", daemon=True)
                self._thread.start()

    def remove(self, job_id: str, ear: Ear) -> None:
        """Ring it no more. One that was never added is no fault."""
        with self._lock:
            ears = self._ears.get(job_id, set())
            ears.discard(ear)
            if not ears:
                self._ears.pop(job_id, None)
                self._positions.pop(job_id, None)

    def _last(self, job_id: str) -> str:
        try:
            found: Any = self._client.xrevrange(f"{self._prefix}:events:{job_id}", count=1)
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not answer: {error}") from error
        return found[0][0].decode() if found else START

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._ears:
                    self._thread = None
                    return
                wanted: dict[Any, Any] = {f"{self._prefix}:events:{job}": at for job, at in self._positions.items()}
            try:
                answer: Any = self._client.xread(wanted, block=_BLOCK_MS)
            except (RedisError, OSError):
                time.sleep(_AWAY_S)
                self._ring_all()
                continue
            self._ring(answer)

    def _ring(self, answer: Any) -> None:
        for name, events in events_in(answer):
            job_id = name.removeprefix(f"{self._prefix}:events:")
            with self._lock:
                if job_id in self._positions:
                    self._positions[job_id] = events[-1].position
                ears = tuple(self._ears.get(job_id, ()))
            for ear in ears:
                ear.ring(events)

    def _ring_all(self) -> None:
        with self._lock:
            ears = [ear for job in self._ears.values() for ear in job]
        for ear in ears:
            ear.ring()


def _order(position: str) -> tuple[int, int]:
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


_lock = threading.Lock()
_bells: WeakKeyDictionary[Celery, tuple[int, Bell]] = WeakKeyDictionary()


def bell_of(app: Celery) -> Bell:
    """The bell of an app in this process; a forked child gets one of its own."""
    runtime = runtime_of(app)
    with _lock:
        pid, bell = _bells.get(app, (0, None))
        if bell is None or pid != os.getpid():
            bell = Bell(runtime.client, runtime.settings.key_prefix)
            _bells[app] = (os.getpid(), bell)
        return bell
