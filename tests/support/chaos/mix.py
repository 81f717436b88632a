"""Jobs of all sorts, each with the ends that it may come to, and the checks that hold whatever was broken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import ryla_tasks
from ryla_tasks.errors import JobError, SubmitOutcomeUnknown
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.store.codec import RECORD_FIELDS, decode_record
from ryla_tasks.store.events import read_events
from tests.support.fleet import ENDPOINTS, Fleet, eventually

__all__ = ["Mix", "is_unanswered"]

_PAGE = 500


@dataclass
class Mix:
    """Jobs at endpoints that give back their input, in turns. `allowed` says for each job which ends it may come to;
    a submit without an answer may besides end each as failed, under the policies that submit nothing again."""

    fleet: Fleet
    endpoints: tuple[str, ...] = ("echo",)
    allowed: dict[str, frozenset[State]] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.allowed)

    def add(self, *ends: State, simulate: dict[str, Any] | None = None, pad: int = 0, **options: Any) -> str:
        """Enqueue a job that must come to one of these ends, with a token that nobody else has; `pad` makes its input,
        and so its output, longer by so many bytes."""
        wish = {"n": len(self.allowed), "token": uuid4().hex, "simulate": simulate or {}}
        if pad:
            wish["pad"] = "x" * pad
        options.setdefault("on_unknown", "fail")
        endpoint = self.endpoints[len(self) % len(self.endpoints)]
        result = ryla_tasks.run_endpoint.delay(endpoint, wish, **options)
        self.expect(result.id, *ends, wish=wish)
        return str(result.id)

    def expect(self, job_id: str, *ends: State, wish: dict[str, Any]) -> None:
        """A job that was enqueued in another way."""
        self.allowed[job_id] = frozenset(ends or {State.COMPLETED})
        self.inputs[job_id] = wish

    def plain(self, count: int, seconds: float = 1.0, **options: Any) -> list[str]:
        """So many jobs that simply complete."""
        return [self.add(State.COMPLETED, simulate={"seconds": seconds}, **options) for _ in range(count)]

    def records(self) -> dict[str, JobRecord]:
        """All records there are."""
        ids, found = list(self.allowed), {}
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            pipe = self.fleet.client.pipeline(transaction=False)
            for job_id in page:
                pipe.hmget(f"ryla:job:{job_id}", RECORD_FIELDS)
            rows = zip(page, pipe.execute(), strict=True)
            found |= {job_id: decode_record(job_id, fields) for job_id, fields in rows}
        return found

    def states(self) -> Counter[State]:
        """How many jobs in the store are in each state, by the indexes."""
        pipe = self.fleet.client.pipeline()
        for state in State:
            pipe.zcard(f"ryla:idx:state:{state}")
        return Counter({state: count for state, count in zip(State, pipe.execute(), strict=True) if count})

    def ended(self) -> int:
        return sum(count for state, count in self.states().items() if state.ended)

    def wait(self, timeout: float = 60.0, meanwhile: Callable[[], None] = lambda: None) -> float:
        """Until all jobs have ended and Celery has been told; the seconds that took. `meanwhile` is called often."""
        began = time.monotonic()

        def over() -> bool:
            meanwhile()
            return self.ended() >= len(self)

        try:
            eventually(over, timeout=timeout, every=0.1)
            left = timeout - (time.monotonic() - began)
            eventually(lambda: not self.untold(), timeout=max(5.0, left), every=0.2)
        except AssertionError:
            stuck = [r for r in self.records().values() if not r.state.ended or not r.delivered]
            raise AssertionError(
                f"of {len(self)} jobs not all ended and told in {timeout} s: {self.states()}, untold "
                f"{len(self.untold())}; first {stuck[:1]}"
            ) from None
        return time.monotonic() - began

    def untold(self) -> list[str]:
        """Jobs whose end Celery has not confirmed."""
        pipe = self.fleet.client.pipeline()
        ids = list(self.allowed)
        for job_id in ids:
            pipe.hexists(f"ryla:job:{job_id}", "delivered")
        return [job_id for job_id, told in zip(ids, pipe.execute(), strict=True) if not told]

    def counter(self, name: str) -> int:
        """One of the engine's counters."""
        return int(self.fleet.client.hget("ryla:counters", name) or 0)

    def unanswered(self) -> int:
        """How many jobs ended because nobody knows whether their submit was taken."""
        return sum(is_unanswered(record) for record in self.records().values())

    def remote_jobs(self) -> Counter[str]:
        """How many remote jobs the simulator has taken for each job of ours, by the input."""
        hosted = self.fleet.simulator._simulator.endpoints
        jobs = [job for name in self.endpoints for job in list(hosted[ENDPOINTS[name][0]].core.jobs.values())]
        return Counter(job.input.get("ryla", {}).get("job_id", "") for job in jobs)

    def check(self) -> int:
        """Every job is at an allowed end with the right result, Celery says the same, nothing was submitted twice
        but what a retry or a policy wanted, and no list has it wrong. Returns the number of doubles, which is 0."""
        records = self.records()
        for job_id, record in records.items():
            self._check_end(job_id, record)
        doubles = self.doubles(records)
        assert doubles == 0, f"{doubles} submitted twice"
        for name in self.endpoints:
            assert self.fleet.endpoint(name).counters().duplicates == 0, name
        self.check_lists(records)
        self.check_money(records)
        self.check_idle()
        return doubles

    def _check_end(self, job_id: str, record: JobRecord) -> None:
        if is_unanswered(record):
            assert record.state is State.FAILED
        else:
            assert record.state in self.allowed[job_id], (job_id, record)
        told = ryla_tasks.app.AsyncResult(job_id)
        assert told.state == ("SUCCESS" if record.state is State.COMPLETED else "FAILURE"), (told.state, record)
        if record.state is State.COMPLETED:
            data, wish = told.result["data"], self.inputs[job_id]
            assert {name: data[name] for name in wish} == wish, "a result of another job"
        else:
            assert isinstance(told.result, JobError)

    def doubles(self, records: dict[str, JobRecord]) -> int:
        """Remote jobs beyond the one of each attempt that a job was entitled to."""
        taken = self.remote_jobs()
        assert set(taken) <= set(records), set(taken) - set(records)
        entitled = {
            job_id: 1 + record.retries + len(record.unanswered) + len(record.fallbacks)
            for job_id, record in records.items()
        }
        return sum(max(0, count - entitled[job_id]) for job_id, count in taken.items())

    def check_lists(self, records: dict[str, JobRecord]) -> None:
        """Each list has exactly the jobs that belong on it."""
        client = self.fleet.client

        def listed(name: str) -> set[str]:
            return {member.decode() for member in client.zrange(f"ryla:idx:{name}", 0, -1)}

        assert listed("all") == set(records)
        for name in self.endpoints:
            assert listed(f"endpoint:{name}") == {i for i, r in records.items() if r.spec.endpoint == name}, name
        for state in State:
            assert listed(f"state:{state}") == {i for i, r in records.items() if r.state is state}, state
        for user in {record.spec.user_id for record in records.values()} - {""}:
            assert listed(f"user:{user}") == {i for i, r in records.items() if r.spec.user_id == user}

    def check_money(self, records: dict[str, JobRecord]) -> None:
        """What was spent is what the jobs have cost, and nothing is reserved any more."""
        reserved = {job_id: record.money for job_id, record in records.items() if record.money.reserved}
        assert not reserved, reserved
        spent, paid = Counter[str](), Counter[str]()
        for key in self.fleet.client.keys("ryla:spend:*"):
            amounts = {name.decode(): int(amount) for name, amount in self.fleet.client.hgetall(key).items()}
            spent += Counter({name: amount for name, amount in amounts.items() if name.startswith("endpoint:")})
        for record in records.values():
            paid[f"endpoint:{record.spec.endpoint}"] += record.money.paid
        assert spent == +paid

    def check_idle(self) -> None:
        """Nothing is due any more, and nothing is left to send."""
        client = self.fleet.client

        def left() -> list[bytes]:
            due = [member for name in client.scan_iter("ryla:due:*") for member in client.zrange(name, 0, -1)]
            return due + client.zrange("ryla:outbox", 0, -1)

        eventually(lambda: not left(), timeout=40, every=0.2, what="nothing due")

    def progress_of(self, job_id: str) -> list[tuple[str, float]]:
        """The events of a job: type and percentage."""
        events = read_events(self.fleet.client, "ryla", job_id)
        return [(event.type, float(event.data.get("percent") or 0)) for event in events]


def is_unanswered(record: JobRecord) -> bool:
    """Whether a job ended as one whose submit may or may not have been taken."""
    return ((record.ending or {}).get("error") or {}).get("type") == SubmitOutcomeUnknown.__name__
