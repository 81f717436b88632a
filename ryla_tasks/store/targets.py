"""What the fleet knows of its targets: their health, their history, and the alerts about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable
from ryla_tasks.jobs.stats import Sample
from ryla_tasks.jobs.stuck import Watch
from ryla_tasks.store.codec import dumps
from ryla_tasks.store.events import Event
from ryla_tasks.store.scripts import Scripts

__all__ = ["Look", "TargetStore"]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. `right` is the right to ask the target's /health, empty where somebody else had it lately;
    `samples` is None where none were asked for. `now` is the time by the clock of Redis."""

    now: float
    right: str
    watch: Watch | None
    samples: tuple[Sample, ...] | None


class TargetStore:
    """Targets in Redis. Safe for use by many threads; every method is one round trip, and raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._scripts = Scripts(client, prefix)

    def look(self, target: str, *, ask_every_s: float | None = None, samples: bool = False) -> Look:
        """What is known of a target. With `ask_every_s`, take the right to ask /health unless somebody of the whole
        fleet has had it within that time."""
        wish: dict[str, Any] = {"target": target}
        if ask_every_s is not None:
            wish["ask_ms"] = round(ask_every_s * 1000)
        if samples:
            wish["samples"] = True
        now, right, watch, found = self._scripts.call("look", dumps(wish))
        return Look(
            now=int(now) / 1e6,
            right=right.decode(),
            watch=Watch.from_json(watch) if watch else None,
            samples=tuple(map(Sample.from_json, found)) if samples else None,
        )

    def record_health(self, target: str, right: str, watch: Watch) -> bool:
        """Keep what came of asking. False where the right was lost: the answer took too long, and may be old news."""
        return bool(self._scripts.call("record_health", dumps({"target": target, "right": right}), watch.to_json()))

    def add_calls(self, counts: Mapping[str, int]) -> None:
        """Add to the calls that the fleet has made; each is named `TARGET OPERATION HOW`."""
        self._scripts.call("add_calls", dumps(counts))

    def calls(self) -> dict[tuple[str, str, str], int]:
        """How many calls the fleet has made: by target, operation, and status code, `none` or `repeated`."""
        try:
            found: Any = self._client.hgetall(f"{self._prefix}:provider_calls")
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not answer: {error}") from error
        named = ((name.decode().rsplit(" ", 2), int(count)) for name, count in found.items())
        return {(target, operation, how): count for (target, operation, how), count in named}

    def alert(self, what: str, event: dict[str, Any], *, quiet_s: float) -> bool:
        """Tell the operator of `what`, unless it goes on since it was told, or ended less than `quiet_s` ago."""
        wish = {"what": what, "quiet_ms": round(quiet_s * 1000)}
        return bool(self._scripts.call("alert", dumps(wish), dumps(event)))

    def alerts(self, most: int = 100) -> Iterator[Event]:
        """The latest alerts, newest first."""
        try:
            found: Any = self._client.xrevrange(f"{self._prefix}:alerts", count=most)
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not answer: {error}") from error
        for position, fields in found:
            data = json.loads(fields[b"e"])
            yield Event(position.decode(), data.pop("type"), data)
