"""A job's progress as server-sent events: what is to be done and sent, step by step, without doing it.

The blocking stream and the one for asyncio both carry out these steps, so that they cannot come to differ.
Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from ryla_tasks.contrib.web.documents import event_document
from ryla_tasks.jobs.states import State
from ryla_tasks.store.events import START, Event

__all__ = ["Answer", "Look", "Read", "Send", "Step", "Wait", "Watch", "position_of", "steps"]

#: Proxies and browsers give up a silent connection after a minute or less; and only writes tell that nobody listens.
BEAT_S = 5.0

#: How long one look counts as watching, for the poll planner, and how soon before its end it is renewed.
WATCH_S, WATCH_AGAIN_S = 15.0, 10.0

#: After so long without an event the record itself is looked at: its stream may have gone with it.
LOOK_S = 5.0

#: A connection ends after so long, and the browser comes back and goes on: deploys and proxies end it anyway.
LONGEST_S = 600.0

#: How soon it comes back, in milliseconds.
COME_BACK_MS = 2_000

_POSITION = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Read:
    """Read the events after a position; the answer is a list of them, or None where Redis is away."""

    after: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Tell the poll planner that somebody watches."""


@dataclass(frozen=True, slots=True)
class Look:
    """Look at the job; the answer is its state, or None where Redis is away, or an empty text where it is gone."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until there may be an event, for so many seconds at the most."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    data: bytes


Step = Read | Watch | Look | Wait | Send
Answer = Sequence[Event] | State | str | None


def position_of(last_event_id: str | None) -> str:
    """The position that a browser says it has read up to; the start where it says none that could be one."""
    if not last_event_id or not _POSITION.fullmatch(last_event_id):
        return START
    return last_event_id if all(int(part) < 2**64 for part in last_event_id.split("-")) else START


def steps(after: str, *, held: bool, clock: Callable[[], float] = time.monotonic) -> Generator[Step, Answer, None]:
    """Every event after a position, once and in order, until the job has ended.

    Where the connection may not be `held`, what there is by now is sent, and the browser comes back for the rest.
    """
    began = spoke = clock()
    # A short connection has no time to wait for that look.
    looked = began if held else began - LOOK_S
    watched = -WATCH_AGAIN_S
    yield Send(f"retry: {COME_BACK_MS}\n\n".encode())
    while True:
        if clock() - watched >= WATCH_AGAIN_S:
            watched = clock()
            yield Watch()
        events = yield Read(after)
        if events:
            assert not isinstance(events, str)
            frames = b"".join(map(_frame, events))
            after, spoke, looked = events[-1].position, clock(), clock()
            yield Send(frames)
            if end := _end(events):
                yield Send(_last(end))
                return
        elif events is not None and clock() - looked >= LOOK_S:
            looked = clock()
            state = yield Look()
            if state == "" or (isinstance(state, State) and state.ended):
                # Its last events may have come between the read and this look. Where they cannot be read, later.
                events = yield Read(after)
                if events is not None:
                    assert not isinstance(events, str)
                    yield Send(b"".join(map(_frame, events)) + _last(str(state) or "gone"))
                    return
        if not held or clock() - began >= LONGEST_S:
            return
        if clock() - spoke >= BEAT_S:
            spoke = clock()
            yield Send(b":\n\n")
        yield Wait(max(0.05, min(LOOK_S, BEAT_S - (clock() - spoke))))


def _frame(event: Event) -> bytes:
    data = json.dumps(event_document(event), separators=(",", ":"))
    return f"id: {event.position}\ndata: {data}\n\n".encode()


def _last(status: str) -> bytes:
    """Tells the page that there is no more: it closes, or the browser would come back for ever."""
    return f'event: end\ndata: {{"status":"{status}"}}\n\n'.encode()


def _end(events: Sequence[Event]) -> str:
    phase = events[-1].data.get("phase")
    return str(phase) if phase is not None and State(phase).ended else ""
