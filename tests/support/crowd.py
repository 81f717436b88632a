"""Many equal jobs, and what became of them: what every resilience and load test asks about."""

from __future__ import annotations

import re
from collections import Counter

from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks.jobs.states import State
from tests.support.fleet import Fleet, WorkerProcess, eventually

#: How Celery tells of a job that ended so.
TOLD_AS = {State.COMPLETED: "SUCCESS", State.FAILED: "FAILURE"}

_RIDE = re.compile(r"poll\.ride target=\S+ claimed=(?P<claimed>\d+) settled=(?P<settled>\d+)")


class Crowd:
    """Jobs at one endpoint, each `seconds` long there."""

    def __init__(self, fleet: Fleet, count: int, seconds: float, endpoint: str = "echo") -> None:
        self.fleet = fleet
        self.endpoint = endpoint
        wish = {"simulate": {"seconds": seconds}}
        # A submit without an answer ends its job here, so that a crowd comes to its end.
        options = {"on_unknown": "fail"}
        self.results: list[AsyncResult] = [
            ryla_tasks.run_endpoint.delay(endpoint, wish, **options) for _ in range(count)
        ]

    def __len__(self) -> int:
        return len(self.results)

    def states(self) -> Counter[State]:
        """How many of all jobs in the store are in each state."""
        pipe = self.fleet.client.pipeline()
        for state in State:
            pipe.zcard(f"ryla:idx:state:{state}")
        return Counter({state: count for state, count in zip(State, pipe.execute(), strict=True) if count})

    def count(self, *states: State) -> int:
        """How many of all jobs in the store are in one of these states."""
        found = self.states()
        return sum(found[state] for state in states)

    def ended(self) -> int:
        """How many have ended."""
        return self.count(*(state for state in State if state.ended))

    def wait_submitted(self, count: int | None = None, timeout: float = 60.0) -> None:
        """Until so many jobs (all) are past their submit."""
        wanted = len(self) if count is None else count

        def submitted() -> bool:
            return len(self) - self.count(State.QUEUED, State.SUBMITTING) >= wanted

        eventually(submitted, timeout=timeout, every=0.05, what=f"{wanted} of {len(self)} submitted")

    def wait_ended(self, count: int | None = None, timeout: float = 60.0) -> None:
        """Until so many jobs (all) have ended."""
        wanted = len(self) if count is None else count
        try:
            eventually(lambda: self.ended() >= wanted, timeout=timeout, every=0.05)
        except AssertionError:
            raise AssertionError(f"of {len(self)} jobs not {wanted} ended in {timeout} s: {self.states()}") from None

    def check_told(self, timeout: float = 30.0) -> None:
        """Every job's Celery task is told the end that its record has."""
        for result in self.results:
            told = TOLD_AS[ryla_tasks.Job.get(result.id).status]
            eventually(
                lambda r=result, t=told: r.state == t, timeout=timeout, every=0.05, what=f"{result.id} told {told}"
            )

    def check_submitted_once(self) -> None:
        """No job was sent twice: each had one attempt, and each attempt was taken at most once."""
        counters = self.fleet.endpoint(self.endpoint).counters()
        assert counters.duplicates == 0, counters
        assert self.counter("attempts") == len(self), self.fleet.client.hgetall("ryla:counters")
        assert self.counter("orphans") == 0
        assert counters.accepted <= len(self)

    def counter(self, name: str) -> int:
        """One of the engine's counters."""
        return int(self.fleet.client.hget("ryla:counters", name) or 0)


def polls(worker: WorkerProcess) -> tuple[int, int]:
    """How many polls a worker (at log level DEBUG) has claimed, and how many of them it has settled."""
    rides = [(int(ride["claimed"]), int(ride["settled"])) for ride in _RIDE.finditer(worker.text)]
    return sum(claimed for claimed, _ in rides), sum(settled for _, settled in rides)
