"""Our estimate beside RunPod's bills, target by target, and why they differ."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ryla_tasks.costs.period import Period
from ryla_tasks.jobs.invoice import Amounts, Difference, explained
from ryla_tasks.jobs.money import dollars
from ryla_tasks.jobs.usage import NOTHING_USED, Usage
from ryla_tasks.providers.billing import RunPodBilling
from ryla_tasks.providers.http import Timeouts
from ryla_tasks.settings import Settings, parse_target_id

__all__ = ["Reconciled", "Reconciliation", "reconcile"]

_AT_ONCE = datetime.timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One target. Money is US dollars."""

    target: str
    usage: Usage
    invoice: Amounts
    difference: Difference

    @property
    def estimate(self) -> float:
        return dollars(self.usage.cost)

    @property
    def idle_share(self) -> float | None:
        """The share of idle workers in what was billed for workers."""
        return self.difference.idle / self.invoice.compute if self.invoice.compute else None

    @property
    def cold_share(self) -> float | None:
        """The share of workers' starts in what was billed for workers."""
        cold = dollars(self.usage.start_cost) + self.difference.cold
        return cold / self.invoice.compute if self.invoice.compute else None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The targets of the settings and of the ledger, for whole hours of UTC."""

    begins: datetime.datetime
    ends: datetime.datetime
    idle_timeout_s: float
    lines: tuple[Reconciled, ...]

    @property
    def estimate(self) -> float:
        return sum(line.estimate for line in self.lines)

    @property
    def invoice(self) -> float:
        return sum(line.invoice.total for line in self.lines)


def reconcile(
    settings: Settings, period: Period, used: Mapping[str, Usage], *, idle_timeout_s: float
) -> Reconciliation:
    """Ask RunPod what it has billed, and compare. `used` is the ledger by target.

    Raises `ConfigurationError` where the API key of an account is missing, and `ProviderError`s.
    """
    known = {target.id for endpoint in settings.endpoints.values() for target in endpoint.targets}
    targets = sorted(known | {name for name in used if name})
    begins, ends = (
        datetime.datetime.fromtimestamp(h * 3600, datetime.UTC) for h in (period.first_hour, period.end_hour)
    )
    bills: dict[str, dict[str, Amounts]] = {}
    lines = []
    for name in targets:
        reference = parse_target_id(name)
        if reference.account not in bills:
            bills[reference.account] = _bills(settings, reference.account, begins, ends)
        usage = used.get(name, NOTHING_USED)
        invoice = bills[reference.account].get(reference.endpoint_id, Amounts())
        price = settings.target(name).price_per_s
        lines.append(Reconciled(name, usage, invoice, explained(usage, invoice, price, idle_timeout_s)))
    return Reconciliation(begins, ends, idle_timeout_s, tuple(lines))


def _bills(settings: Settings, account: str, begins: datetime.datetime, ends: datetime.datetime) -> dict[str, Amounts]:
    timeouts = Timeouts(settings.http_connect_s, settings.http_read_s, settings.http_total_s)
    client = RunPodBilling(settings.api_key_for(account), settings.runpod_management_url, timeouts=timeouts)
    sums: defaultdict[str, Amounts] = defaultdict(Amounts)
    try:
        for first, last in _spans(begins, ends):
            for billed in client.serverless(first, last):
                sums[billed.endpoint_id] += billed.amounts
    finally:
        client.close()
    return sums


def _spans(begins: datetime.datetime, ends: datetime.datetime) -> Iterator[tuple[datetime.datetime, datetime.datetime]]:
    while begins < ends:
        yield begins, min(begins + _AT_ONCE, ends)
        begins += _AT_ONCE
