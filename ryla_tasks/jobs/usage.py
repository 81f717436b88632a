"""What the fleet has used: sums of what the ledger holds, by day, hour, user, kind, endpoint or target. Pure.

The ledger (`commands/usage.lua`) knows hours of UTC. An hour belongs to the day in which it begins, so in a time zone
that is half an hour beside UTC a day begins and ends half an hour late.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

from ryla_tasks.jobs.money import dollars

__all__ = ["MEASURES", "NOTHING_USED", "OTHERS", "By", "Row", "Usage", "grouped", "total"]

#: Stands for the users beyond the most that a day keeps apart. No user has this name.
OTHERS = "\N{HORIZONTAL ELLIPSIS}"


class By(StrEnum):
    """What to sum by."""

    DAY = "day"
    HOUR = "hour"
    USER = "user"
    KIND = "kind"
    ENDPOINT = "endpoint"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums. Jobs are counted by how they ended, attempts are those at the cloud that are over; times are milliseconds,
    money whole micro-dollars.

    `cold` attempts waited for a worker's start, `cold_ms` in all; `starts` are the starts that somebody pays for, each
    once. `start_cost`, `lora_cost` (trainings) and `assumed` (nobody knows what it was) are parts of `cost`. `unpriced`
    attempts were at a target without a price, and are in no cost. What is summed by user has no waits and no starts.
    """

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    timed_out: int = 0
    expired: int = 0
    attempts: int = 0
    run_ms: int = 0
    waited_ms: int = 0
    cold: int = 0
    cold_ms: int = 0
    starts: int = 0
    start_ms: int = 0
    images: int = 0
    unpriced: int = 0
    unpriced_ms: int = 0
    cost: int = 0
    start_cost: int = 0
    lora_cost: int = 0
    assumed: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in MEASURES))

    @property
    def jobs(self) -> int:
        """Jobs that ended, in whatever way."""
        return self.completed + self.failed + self.cancelled + self.timed_out + self.expired

    @property
    def usd(self) -> float | None:
        """The cost in dollars; None where nothing that was used has a price."""
        return None if self.unpriced and self.unpriced == self.attempts and not self.cost else dollars(self.cost)

    @property
    def usd_per_image(self) -> float | None:
        """What an image has cost, with all that failed and all starts, but no trainings; None where some of it has no
        price."""
        return dollars(self.cost - self.lora_cost) / self.images if self.images and not self.unpriced else None

    @property
    def cold_share(self) -> float | None:
        """The share of the attempts that waited for a worker's start."""
        return self.cold / self.attempts if self.attempts else None


MEASURES = tuple(field.name for field in fields(Usage))
NOTHING_USED = Usage()


@dataclass(frozen=True, slots=True)
class Row:
    """What was used in an hour (its number since 1970, in UTC): by an endpoint's jobs of a kind at a target, or by a
    user. The other names are empty; so are a target that no job was sent to, and the user of jobs without one."""

    hour: int
    usage: Usage
    kind: str = ""
    endpoint: str = ""
    target: str = ""
    user: str = ""

    def begins(self, zone: datetime.tzinfo) -> datetime.datetime:
        """The beginning of its hour."""
        return datetime.datetime.fromtimestamp(self.hour * 3600, zone)


def total(rows: Iterable[Row]) -> Usage:
    """The sum of all."""
    summed = NOTHING_USED
    for row in rows:
        summed += row.usage
    return summed


def grouped(rows: Iterable[Row], by: By, zone: datetime.tzinfo) -> dict[str, Usage]:
    """Sums by a name, in its order; days and hours are those of a time zone. For users, the rows are those of users."""
    name, groups = _NAMES[by], dict[str, Usage]()
    for row in rows:
        key = name(row, zone)
        groups[key] = groups.get(key, NOTHING_USED) + row.usage
    return dict(sorted(groups.items()))


_NAMES: dict[By, Callable[[Row, datetime.tzinfo], str]] = {
    By.DAY: lambda row, zone: row.begins(zone).date().isoformat(),
    By.HOUR: lambda row, zone: row.begins(zone).isoformat(timespec="minutes"),
    By.USER: lambda row, _zone: row.user,
    By.KIND: lambda row, _zone: row.kind,
    By.ENDPOINT: lambda row, _zone: row.endpoint,
    By.TARGET: lambda row, _zone: row.target,
}
