"""The ledger of what was used (`commands/usage.lua`), read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import redis
from redis.exceptions import RedisError

from ryla_tasks.errors import StoreUnavailable
from ryla_tasks.jobs.usage import MEASURES, OTHERS, Row, Usage

__all__ = ["UsageStore"]

_DAY_H = 24
#: So many days are asked for at once: those of users may be large.
_DAYS_AT_ONCE = 14


class UsageStore:
    """What was used, in Redis. Hours are numbers since 1970, in UTC. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, *, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def now(self) -> float:
        """The time by the clock of Redis, by which the ledger is kept."""
        try:
            seconds, micros = self._client.time()
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not answer: {error}") from error
        return float(seconds) + float(micros) / 1e6

    def rows(self, first_hour: int, end_hour: int) -> list[Row]:
        """What was used from an hour on, and before another: by kind, endpoint and target."""
        return [
            Row(hour, Usage(**measures), *names.split(" ", 2))
            for hour, names, measures in self._read("usage", first_hour, end_hour)
        ]

    def rows_of_users(self, first_hour: int, end_hour: int) -> list[Row]:
        """The same by user. What no user is named for stands under the empty name, or under `OTHERS`."""
        return [
            Row(hour, Usage(**measures), user=name[1:] if name.startswith("=") else OTHERS)
            for hour, name, measures in self._read("usage_users", first_hour, end_hour)
        ]

    def _read(self, kind: str, first_hour: int, end_hour: int) -> Iterator[tuple[int, str, dict[str, int]]]:
        days = range(first_hour // _DAY_H, -(-end_hour // _DAY_H))
        for place in range(0, len(days), _DAYS_AT_ONCE):
            some = days[place : place + _DAYS_AT_ONCE]
            try:
                with self._client.pipeline(transaction=False) as pipe:
                    for day in some:
                        pipe.hgetall(f"{self._prefix}:{kind}:{day}")
                    found = pipe.execute()
            except RedisError as error:
                raise StoreUnavailable(f"Redis did not answer: {error}") from error
            for day, fields in zip(some, found, strict=True):
                for (hour, names), measures in _rows_of(fields).items():
                    if first_hour <= day * _DAY_H + hour < end_hour:
                        yield day * _DAY_H + hour, names, measures


def _rows_of(fields: Mapping[bytes, bytes]) -> dict[tuple[int, str], dict[str, int]]:
    """The measures of a day, by hour and name; those of a newer version are left out."""
    rows: defaultdict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    for field, number in fields.items():
        hour, measure, names = field.decode("utf-8", "replace").split(" ", 2)
        if measure in MEASURES:
            rows[int(hour), names][measure] = int(number)
    return rows
