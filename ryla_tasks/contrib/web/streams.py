"""A job's progress as a stream of server-sent events: for servers with threads or greenlets, and for asyncio.

    Last-Event-ID     where the browser goes on, after a reload of the page or a deploy of the app
    204               what `is_over` is answered with: the browser then stays away

A blocking stream holds a thread of the server. So no more than `web_streams` of a process are held at a time: to those
beyond it what there is by now is sent, and their browsers come back in two seconds for the rest. No page stands still
for it, and no server is without a thread for its other work. Servers that hold connections without threads (gevent,
ASGI) have no such limit.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ryla_tasks.celery_app import current_app
from ryla_tasks.contrib.web.bell import Ear, bell_of
from ryla_tasks.contrib.web.feed import WATCH_S, Answer, Look, Read, Send, Step, Wait, Watch, steps
from ryla_tasks.errors import JobNotFound, StoreError
from ryla_tasks.job import Job
from ryla_tasks.store.events import MOST_READ, START, read_events
from ryla_tasks.tasks.messages import send_poll
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["HEADERS", "afollow", "follow", "is_over"]

#: No proxy may gather the events up, nor keep them.
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class _Seats:
    """How many streams of this process hold a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, most: int) -> bool:
        with self._lock:
            if self._taken >= most:
                return False
            self._taken += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self._taken -= 1


_seats = _Seats()


def is_over(job: Job, after: str) -> bool:
    """Whether a browser that has read up to here has all that there is, and all that there will be."""
    if after == START or not job.status.ended:
        return False
    store = runtime_of(current_app()).store
    return not list(read_events(store.client, store.prefix, job.id, after=after, most=1))


def follow(job: Job, after: str, *, threaded: bool = True) -> Iterator[bytes]:
    """The events of a job after a position, as bytes to send. With `threaded` false, none is held: the server has one
    thread for everything."""
    free = _is_green()
    most = runtime_of(current_app()).settings.web_streams if threaded else 0
    seated = not free and _seats.take(most)
    ear = Ear()
    bell = bell_of(current_app())
    try:
        if seated or free:
            _quietly(bell.add, job.id, ear)
        script = steps(after, held=seated or free)
        answer: Answer = None
        while True:
            try:
                step = script.send(answer)
            except StopIteration:
                return
            answer = None
            match step:
                case Send(data):
                    yield data
                case Wait(seconds):
                    ear.wait(seconds)
                case Read(after) if heard := ear.take(after):
                    answer = heard
                case _:
                    answer = _carry_out(job, step, ear)
    finally:
        bell.remove(job.id, ear)
        if seated:
            _seats.leave()


async def afollow(job: Job, after: str) -> AsyncIterator[bytes]:
    """The same for asyncio. No thread is held: one is borrowed for each short look at Redis."""
    ear = Ear(asyncio.get_running_loop())
    bell = bell_of(current_app())
    try:
        await asyncio.to_thread(_quietly, bell.add, job.id, ear)
        script = steps(after, held=True)
        answer: Answer = None
        while True:
            try:
                step = script.send(answer)
            except StopIteration:
                return
            answer = None
            match step:
                case Send(data):
                    yield data
                case Wait(seconds):
                    await ear.heard(seconds)
                case Read(after) if heard := ear.take(after):
                    answer = heard
                case _:
                    answer = await asyncio.to_thread(_carry_out, job, step, ear)
    finally:
        bell.remove(job.id, ear)


def _carry_out(job: Job, step: Step, ear: Ear) -> Answer:
    """Do what a step says with Redis. Where that is away, the stream goes on, and its events come later."""
    app = current_app()
    store = runtime_of(app).store
    try:
        match step:
            case Read(after):
                events = list(read_events(store.client, store.prefix, job.id, after=after))
                # A full answer may not be all: the rest comes before what has been heard meanwhile.
                ear.caught_up = len(events) < MOST_READ
                return events
            case Watch():
                wake_s, target = store.watch(job.id, WATCH_S)
                send_poll(app, target, wake_s)
            case Look():
                return job.status
    except JobNotFound:
        return ""
    except StoreError:
        pass
    return None


def _quietly(function: Any, *args: Any) -> None:
    """Without the bell, every wait lasts to its end."""
    try:
        function(*args)
    except StoreError:
        return


def _is_green() -> bool:
    """Whether threads are gevent's greenlets here, of which there may be thousands."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))
