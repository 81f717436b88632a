"""The time that a report is about."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Period"]


@dataclass(frozen=True, slots=True)
class Period:
    """From one time on, and before another, in a time zone. The ledger has hours of UTC: those that begin in it count.

    `now` is the time by the clock of Redis; a period may go on beyond it.
    """

    since: datetime.datetime
    until: datetime.datetime
    now: datetime.datetime

    @property
    def zone(self) -> datetime.tzinfo:
        """The time zone that says what a day is."""
        zone = self.since.tzinfo
        assert zone is not None
        return zone

    @property
    def first_hour(self) -> int:
        """The number of its first hour since 1970."""
        return math.ceil(self.since.timestamp() / 3600)

    @property
    def end_hour(self) -> int:
        """The number of the hour behind its last."""
        return math.ceil(self.until.timestamp() / 3600)

    @property
    def ended(self) -> datetime.datetime:
        """Its end, or now where it goes on."""
        return min(self.until, self.now)

    @property
    def splits_hours(self) -> bool:
        """Whether its days begin in the middle of an hour of UTC."""
        offset = self.since.utcoffset() or datetime.timedelta()
        return bool(offset % datetime.timedelta(hours=1))

    def days(self) -> Iterator[str]:
        """Its days, up to now."""
        day = self.since.date()
        while day <= max(self.ended - datetime.timedelta(microseconds=1), self.since).date():
            yield day.isoformat()
            day += datetime.timedelta(days=1)

    @classmethod
    def last_days(cls, days: int, now: datetime.datetime) -> Period:
        """The last days up to now, today included; the time zone is that of `now`."""
        first = now.date() - datetime.timedelta(days=days - 1)
        return cls(datetime.datetime.combine(first, datetime.time(), now.tzinfo), now, now)
