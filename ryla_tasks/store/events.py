"""The event stream of a job: what happened to it, in order, from any position."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable

__all__ = ["MOST_READ", "START", "Event", "events_in", "read_events"]

#: The position before the first event.
START = "0"

#: How many events are read at once, unless somebody says otherwise.
MOST_READ = 500


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `position` is where reading goes on after it; `at` is seconds since the epoch."""

    position: str
    type: str
    data: dict[str, Any]

    @property
    def at(self) -> float:
        return int(self.position.split("-", 1)[0]) / 1000


def read_events(
    client: redis.Redis,
    prefix: str,
    job_id: str,
    *,
    after: str = START,
    block_s: float | None = None,
    most: int = MOST_READ,
) -> Iterator[Event]:
    """The events after a position, oldest first; waits up to `block_s` for the first where there is none yet.

    The stream is capped: of a very long job the oldest events are gone. Raises `StoreUnavailable`.
    """
    block = None if block_s is None else max(1, round(block_s * 1000))
    try:
        answer: Any = client.xread({f"{prefix}:events:{job_id}": after}, count=most, block=block)
    except RedisError as error:
        raise StoreUnavailable(f"Redis did not answer: {error}") from error
    for _stream, events in events_in(answer):
        yield from events


def events_in(answer: Any) -> Iterator[tuple[str, list[Event]]]:
    """The events in an answer of XREAD, by the stream's key; no stream is without any."""
    for key, entries in answer.items() if isinstance(answer, dict) else answer or ():
        events = []
        for position, fields in _flat(entries):
            data = json.loads(fields[b"e"])
            events.append(Event(position.decode(), data.pop("type"), data))
        if events:
            yield key.decode(), events


def _flat(entries: Any) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """redis-py gives the entries of a stream in one more list under RESP3."""
    for entry in entries:
        if entry and isinstance(entry[0], (list, tuple)):
            yield from entry
        else:
            yield entry
