"""Why an invoice differs from our estimate. Pure. Money is US dollars.

What can be told apart: what the invoice names itself (disks, fees), what rounding must have added here, and how much
the idle time after the attempts can have cost at the most. What is left is not explained, and said to be so.
"""

from __future__ import annotations

from dataclasses import dataclass

from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.usage import Usage

__all__ = ["Amounts", "Difference", "explained"]


@dataclass(frozen=True, slots=True)
class Amounts:
    """What an invoice says of one endpoint. `compute` is GPU and CPU."""

    compute: float = 0.0
    disk: float = 0.0
    fee: float = 0.0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.compute + other.compute, self.disk + other.disk, self.fee + other.fee)

    @property
    def total(self) -> float:
        return self.compute + self.disk + self.fee


@dataclass(frozen=True, slots=True)
class Difference:
    """The invoice less the estimate, in parts that sum up to it.

    `disk` and `fee` are on the invoice alone. `rounding`: an attempt's begun seconds count whole here, a worker's once
    there. `idle`: workers that wait for another job after their last. `cold`: starts that were estimated and not
    billed. `assumed`: attempts of unknown cost that were estimated too high. `unknown` is the rest: workers that are
    always on, starts that no job waited for, jobs that others have sent there; or, below nothing, what is not billed
    yet.
    """

    disk: float = 0.0
    fee: float = 0.0
    rounding: float = 0.0
    idle: float = 0.0
    cold: float = 0.0
    assumed: float = 0.0
    unknown: float = 0.0

    @property
    def total(self) -> float:
        return self.disk + self.fee + self.rounding + self.idle + self.cold + self.assumed + self.unknown


def explained(used: Usage, invoice: Amounts, price_per_s: float | None, idle_timeout_s: float) -> Difference:
    """Take apart what lies between an estimate and an invoice of the same endpoint and hours. Without a price there is
    no rounding and no idle time to work out."""
    left = invoice.compute - dollars(used.cost)
    rounding = idle = cold = assumed = 0.0
    if price_per_s:
        runs = dollars(used.cost - used.start_cost - used.assumed)
        rounding = -max(0.0, min(runs - used.run_ms / 1000 * price_per_s, used.attempts * price_per_s))
        left -= rounding
        idle = max(0.0, min(left, used.attempts * idle_timeout_s * price_per_s))
        left -= idle
    if left < 0:
        cold = -min(-left, dollars(used.start_cost))
        left -= cold
        assumed = -min(-left, dollars(max(0, used.assumed)))
        left -= assumed
    return Difference(invoice.disk, invoice.fee, rounding, idle, cold, assumed, left)
