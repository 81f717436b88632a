"""Daily budgets: what the operations are told of them, and what has been spent of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from ryla_tasks.jobs.budget import Ceiling, refused
from ryla_tasks.jobs.ending import described
from ryla_tasks.jobs.money import dollars, micro
from ryla_tasks.jobs.record import JobSpec
from ryla_tasks.jobs.states import State
from ryla_tasks.store.codec import dumps
from ryla_tasks.store.scripts import Scripts

__all__ = ["NO_BUDGETS", "Budgets", "SpendStore", "Terms"]

_ENDINGS = {str(ceiling): json.dumps(described(refused(ceiling))) for ceiling in Ceiling}
_EVENT = dumps({"type": "state", "phase": str(State.FAILED), "message": State.FAILED.sentence})


def _utc() -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What jobs cost at a target: dollars a second of a run, and of a worker's start (0 where that is not billed).
    `run_s` is how long runs usually take there, None where that is not known."""

    price_per_s: float
    start_per_s: float = 0.0
    run_s: float | None = None

    @property
    def price(self) -> str:
        """Both prices, as they stand on the job."""
        return f"{self.price_per_s!r} {self.start_per_s!r}"

    def wish(self) -> dict[str, Any]:
        """The terms as `commands/money.lua` reads them."""
        wish: dict[str, Any] = {"price": self.price, "per_s": round(self.price_per_s * 1e6, 6)}
        return wish if self.run_s is None else {**wish, "run_s": self.run_s}


@dataclass(frozen=True, slots=True)
class Budgets:
    """The daily budgets in dollars, of endpoints by name and of each user; those that are not there are unlimited.

    `offset_s` says how many seconds a day begins before one in UTC.
    """

    endpoints: Mapping[str, float] = field(default_factory=dict)
    user: float | None = None
    offset_s: Callable[[], int] = _utc

    def over(self, spec: JobSpec) -> dict[str, int]:
        """The daily budgets over a job, in micro-dollars, as `commands/money.lua` reads them."""
        return self._over(spec.endpoint, user=bool(spec.user_id))

    def wish(self, endpoint: str) -> dict[str, Any]:
        """What a claim at an endpoint says of budgets, as `commands/money.lua` reads it."""
        return {
            "else_run_s": _EXPECTED_RUN_S,
            "offset_s": self.offset_s(),
            "endings": _ENDINGS,
            "event": _EVENT,
            **self._over(endpoint, user=True),
        }

    def _over(self, endpoint: str, *, user: bool) -> dict[str, int]:
        over = {}
        if endpoint in self.endpoints:
            over["endpoint"] = micro(self.endpoints[endpoint])
        if user and self.user is not None:
            over["user"] = micro(self.user)
        return over


_EXPECTED_RUN_S = JobSpec("", "", "").expected_run_s

NO_BUDGETS = Budgets()


class SpendStore:
    """What has been spent, in Redis. Raises `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, *, prefix: str, offset_s: Callable[[], int] = _utc) -> None:
        self._scripts = Scripts(client, prefix)
        self._offset_s = offset_s

    def today(self, endpoints: Iterable[str] = (), users: Iterable[str] = ()) -> tuple[int, tuple[float, ...]]:
        """The day's number, and what endpoints and users, in this order, have spent on it so far, in dollars.

        Reservations for jobs in flight are part of it.
        """
        fields = [*(f"endpoint:{name}" for name in endpoints), *(f"user:{name}" for name in users)]
        day, *spent = self._scripts.call("spent", dumps({"offset_s": self._offset_s(), "fields": fields}))
        return int(day), tuple(dollars(int(amount)) for amount in spent)
