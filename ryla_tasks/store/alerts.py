"""The stream of alerts as its sender reads it: whose turn it is to send, and how far each service has been told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import redis
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable
from ryla_tasks.store.codec import dumps
from ryla_tasks.store.events import Event
from ryla_tasks.store.scripts import Scripts

__all__ = ["AlertStore", "Told", "Turn"]


@dataclass(frozen=True, slots=True)
class Told:
    """How far a service has been told: the `position` of the last alert, and how many messages went there (`sent`) in
    the hour that began at `since` (seconds, by Redis's clock)."""

    position: str
    since: float = 0.0
    sent: int = 0

    def to_json(self) -> str:
        return dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(str(raw["position"]), float(raw["since"]), int(raw["sent"]))


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to send, and how far each service has been told, by its name. `now` is the time by Redis's clock."""

    now: float
    told: dict[str, Told]


class AlertStore:
    """Alerts in Redis, for one sender named by `token`. Every method is one round trip, and raises `StoreError`."""

    def __init__(self, client: redis.Redis, *, prefix: str, token: str, lease_s: float) -> None:
        self._client = client
        self._key = f"{prefix}:alerts"
        self._scripts = Scripts(client, prefix)
        self._about = {"token": token, "lease_ms": round(lease_s * 1000)}

    def turn(self) -> Turn | None:
        """Take or keep the right to send; None where another process has it."""
        mine, now, *pairs = self._scripts.call("alerts_turn", dumps(self._about))
        if not mine:
            return None
        told = {name.decode(): Told.from_json(text) for name, text in zip(pairs[0::2], pairs[1::2], strict=True)}
        return Turn(int(now) / 1000, told)

    def note(self, service: str, told: Told) -> bool:
        """Keep how far a service has been told, and the right to send; False where that was lost."""
        return bool(self._scripts.call("alerts_noted", dumps({**self._about, "service": service}), told.to_json()))

    def leave(self) -> None:
        """Let another process send."""
        self._scripts.call("alerts_leave", str(self._about["token"]))

    def after(self, position: str, most: int) -> list[Event]:
        """The alerts after a position, oldest first."""
        try:
            found: Any = self._client.xrange(self._key, min=f"({position}", count=most)
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not answer: {error}") from error
        decoded = [(at.decode(), json.loads(fields[b"e"])) for at, fields in found]
        return [Event(at, data.pop("type"), data) for at, data in decoded]
