"""The event stream of a job: what happened to it, in order, from any position."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable

__all__ = ["MOST_READ", "START", "Event", "events_in", "events_of", "read_events"]

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
        events = [_event(position, fields) for position, fields in _flat(entries)]
        if events:
            yield key.decode(), events


def events_of(client: redis.Redis, prefix: str, job_ids: Sequence[str]) -> list[list[Event]]:
    """All events that are kept of each of some jobs, in one round trip. Raises `StoreUnavailable`."""
    try:
        with client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.xrange(f"{prefix}:events:{job_id}")
            answers: list[Any] = pipe.execute()
    except RedisError as error:
        raise StoreUnavailable(f"Redis did not answer: {error}") from error
    return [[_event(position, fields) for position, fields in _flat(entries)] for entries in answers]


def _event(position: bytes, fields: dict[bytes, bytes]) -> Event:
    data = json.loads(fields[b"e"])
    return Event(position.decode(), data.pop("type"), data)


def _flat(entries: Any) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """redis-py gives the entries of a stream in one more list under RESP3."""
    for entry in entries:
        if entry and isinstance(entry[0], (list, tuple)):
            yield from entry
        else:
            yield entry
