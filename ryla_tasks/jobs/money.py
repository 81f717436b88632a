"""What a job's money stands at. Amounts are whole micro-dollars, so that sums of them are exact. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

__all__ = ["NO_MONEY", "Money", "dollars", "micro", "seconds_cost"]

_MICRO = 1_000_000


def micro(usd: float) -> int:
    """Dollars as micro-dollars, a begun one whole; a millionth of one is the error of a float, and is not."""
    return math.ceil(round(usd * _MICRO, 3))


def dollars(amount: int) -> float:
    """Micro-dollars as dollars."""
    return amount / _MICRO


def seconds_cost(milliseconds: int, price_per_s: float) -> int:
    """What so long a time costs at a price in dollars a second: each begun second is billed whole."""
    return micro(math.ceil(milliseconds / 1000) * price_per_s)


@dataclass(frozen=True, slots=True)
class Money:
    """A job's account.

    `price_per_s` is what a second costs at the target that the attempt went to, in dollars, as it was when the attempt
    began; 0 where that is not known. `start_per_s` is the same for the seconds in which a worker starts, 0 where those
    are not billed. `paid` is what the attempts that are over have cost, `reserved` what is set aside for the one under
    way, and `cold_ms` how long the worker's start was that counts for it, 0 if none does.
    """

    price_per_s: float = 0.0
    start_per_s: float = 0.0
    paid: int = 0
    reserved: int = 0
    cold_ms: int = 0

    @property
    def is_kept(self) -> bool:
        """Whether there is an account at all: not at targets without a price, but for what another attempt reserved."""
        return self.price_per_s > 0 or self.reserved > 0

    @property
    def cold_cost(self) -> int:
        """What the worker's start costs that counts for the attempt."""
        return seconds_cost(self.cold_ms, self.start_per_s)

    def closed(self, cost: int | None) -> Money:
        """The account after an attempt. Where its cost is not known it is taken to be what was reserved."""
        return replace(self, paid=self.paid + (self.reserved if cost is None else cost), reserved=0)


NO_MONEY = Money()
