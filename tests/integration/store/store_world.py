"""A job store on a real Redis, short ways to bring jobs into each state, and a look at all that is stored."""

from __future__ import annotations

import itertools
from typing import Any

import redis

from ryla_tasks.errors import JobFailed
from ryla_tasks.jobs.ending import error_ending, result_ending
from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.record import JobRecord, JobSpec
from ryla_tasks.jobs.states import State
from ryla_tasks.store.answers import Accepted, Candidate, Claim, Created, NewJob, Rate, Ride, Settled, Sweep
from ryla_tasks.store.budgets import NO_BUDGETS, Budgets
from ryla_tasks.store.codec import Meta
from ryla_tasks.store.jobs import JobStore

ENDPOINT = "image"
TARGET = "runpod:img"
SUBMIT = f"submit:{ENDPOINT}"
POLL = f"poll:{TARGET}"
META_PREFIX = "celery-task-meta-"
META_TTL_S = 1_000

#: No limit that a test would meet.
FREE = Rate(per_s=10_000, burst=10_000)

#: Where jobs go that are claimed without more ado.
HERE = (Candidate(TARGET, FREE),)

#: In the order in which a job goes through them.
UNDER_WAY = (
    State.QUEUED, State.SUBMITTING, State.UNKNOWN, State.WAITING, State.STARTING, State.RUNNING, State.COLLECTING,
)  # fmt: skip


class World:
    """One store, and what a test asks of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url, socket_timeout=5)
        self.store = self.new_store()
        self._numbers = itertools.count(1)
        self._stores = [self.store]

    def new_store(self, budgets: Budgets = NO_BUDGETS) -> JobStore:
        """A store with connections of its own, as another process has it."""
        client = redis.Redis.from_url(self.url, socket_timeout=5)
        return JobStore(client, prefix="ryla", meta=Meta(META_PREFIX, META_TTL_S), budgets=budgets)

    # --- steps of a job ---

    def make(self, job_id: str = "", *, input_json: str = '{"prompt":"x"}', **options: Any) -> Created:
        """Ask for a job. Options are those of `NewJob` and of `JobSpec`."""
        job_id = job_id or f"job-{next(self._numbers)}"
        ours = {name: options.pop(name) for name in NewJob.__slots__ if name in options}
        spec = JobSpec(**{"task": "ryla.test", "kind": "image", "endpoint": ENDPOINT, **options})
        return self.store.create(NewJob(job_id, spec, input_json, f"envelope of {job_id}", **ours))

    def job(self, job_id: str = "", **options: Any) -> str:
        """The id of a new job."""
        return self.make(job_id, **options).job_id

    def claim(
        self, job_id: str, *, lease_s: float = 20.0, rate: Rate = FREE, endpoint: str = ENDPOINT, **options: Any
    ) -> Claim:
        """Claim a queued job for submission, and expect to get it."""
        options = {"checked": True, **options}
        claim = self.store.claim_submit(endpoint, (Candidate(TARGET, rate),), job_id=job_id, lease_s=lease_s, **options)
        assert isinstance(claim, Claim), claim
        return claim

    def accept(self, record: JobRecord, remote_id: str = "", gap_s: float = 0.0) -> Accepted:
        return self.store.accept(record, remote_id or f"r-{record.job_id}", gap_s, 0.0)

    def ride(
        self,
        *,
        target: str = TARGET,
        most: int = 64,
        lease_s: float = 8.0,
        rate: Rate = FREE,
        most_rides: int = 10,
        store: JobStore | None = None,
    ) -> Ride:
        store = store or self.store
        return store.claim_polls(target, most=most, lease_s=lease_s, rate=rate, most_rides=most_rides)

    def settle(self, ride: Ride, *decisions: Decision, last: bool = True, hold_s: float | None = None) -> Settled:
        """Settle jobs of a ride; each decision is about the job of its record."""
        claimed = {record.job_id: record for record in ride.records}
        pairs = [(claimed[decision.record.job_id], decision) for decision in decisions]
        return self.store.settle_ride(ride, pairs, last=last, hold_s=hold_s)

    def collect(self, job_id: str, *, lease_s: float = 20.0) -> Claim:
        claim = self.store.claim_deliver(job_id=job_id, lease_s=lease_s)
        assert isinstance(claim, Claim), claim
        return claim

    def sweep(self, *, grace_s: float = 1.0, most: int = 200, most_resends: int = 64) -> Sweep:
        return self.store.sweep(grace_s=grace_s, most=most, most_resends=most_resends)

    # --- jobs in a state ---

    def waiting(self, job_id: str = "", *, gap_s: float = 0.0, **options: Any) -> str:
        """A job that a remote endpoint has taken, due to be polled."""
        job_id = self.job(job_id, **options)
        self.accept(self.claim(job_id).record, gap_s=gap_s)
        return job_id

    def at(self, state: State, **options: Any) -> str:
        """A job in a state, claimed by nobody but where the state means a claim. Others that are due to be polled are
        left with a lease."""
        if state is State.QUEUED:
            return self.job(**options)
        if state in (State.SUBMITTING, State.UNKNOWN):
            job_id = self.job(**options)
            claim = self.claim(job_id)
            if state is State.UNKNOWN:
                self.store.settle(claim, Decision(claim.record.with_(state=state), Step.SUBMIT, 60.0))
            return job_id
        job_id = self.waiting(**options)
        if state is State.WAITING:
            return job_id
        ride = self.ride()
        (record,) = (record for record in ride.records if record.job_id == job_id)
        match state:
            case State.STARTING | State.RUNNING:
                self.settle(ride, again(record, state=state))
            case State.COLLECTING:
                self.settle(ride, collecting(record))
            case State.FAILED:
                self.settle(ride, failed(record))
            case State.COMPLETED:
                self.settle(ride, collecting(record))
                claim = self.collect(job_id)
                self.store.settle(claim, completed(claim.record))
            case _:
                raise AssertionError(state)
        return job_id

    def record(self, job_id: str) -> JobRecord:
        return self.store.load(job_id)[0]

    def state(self, job_id: str) -> State:
        return self.record(job_id).state

    # --- what is stored ---

    def now(self) -> float:
        """The time by Redis's clock."""
        seconds, micros = self.client.time()
        return seconds + micros / 1e6

    def due_in(self, key: str, member: str) -> float:
        """Seconds until a member of a sorted set is due."""
        score = self.client.zscore(f"ryla:{key}", member)
        assert score is not None, (key, member, self.client.zrange(f"ryla:{key}", 0, -1))
        return score / 1e6 - self.now()

    def has(self, key: str, member: str) -> bool:
        return self.client.zscore(f"ryla:{key}", member) is not None

    def past(self, key: str, member: str, by_s: float = 10.0) -> None:
        """Let it be as if a member of a sorted set had been due for `by_s` seconds."""
        changed = self.client.zadd(f"ryla:{key}", {member: round((self.now() - by_s) * 1000) * 1000}, xx=True, ch=True)
        assert changed == 1, (key, member)

    def events(self, job_id: str) -> list[bytes]:
        return [fields[b"e"] for _position, fields in self.client.xrange(f"ryla:events:{job_id}")]

    def dump(self, *, but: tuple[str, ...] = ("ryla:counters",)) -> dict[str, Any]:
        """Everything in Redis, to see that something changed nothing."""
        found: dict[str, Any] = {}
        for name in sorted(self.client.scan_iter("*", count=1000)):
            kind = self.client.type(name)
            key = name.decode()
            if key in but:
                continue
            read = {
                b"string": lambda n: self.client.get(n),
                b"hash": lambda n: self.client.hgetall(n),
                b"set": lambda n: self.client.smembers(n),
                b"zset": lambda n: dict(self.client.zrange(n, 0, -1, withscores=True)),
                b"list": lambda n: self.client.lrange(n, 0, -1),
                b"stream": lambda n: self.client.xrange(n),
            }[kind]
            found[key] = read(name)
        return found

    def traces(self, job_id: str) -> list[str]:
        """Every key and field that names a job."""
        return [key for key, value in self.dump().items() if job_id in key or job_id in repr(value)]


def again(record: JobRecord, in_s: float = 0.0, *, state: State | None = None, event: str = "") -> Decision:
    """Look at it again."""
    return Decision(record.with_(state=state or record.state), Step.POLL, in_s, event)


def collecting(record: JobRecord, output: Any = None) -> Decision:
    return Decision(record.with_(state=State.COLLECTING), Step.DELIVER, event="state", output=output)


def completed(record: JobRecord, result: dict[str, Any] | None = None) -> Decision:
    ending = result_ending(result or {"seed": 7})
    return Decision(record.with_(state=State.COMPLETED, ending=ending), Step.DELIVER, event="state")


def failed(record: JobRecord, message: str = "It broke.") -> Decision:
    ending = error_ending(JobFailed, message)
    return Decision(record.with_(state=State.FAILED, ending=ending), Step.DELIVER, event="state")


def retried(record: JobRecord, in_s: float = 0.0) -> Decision:
    """A new attempt."""
    after = record.with_(state=State.QUEUED, retries=record.retries + 1, remote_id="", submitted=0.0)
    return Decision(after, Step.SUBMIT, in_s, "retry")
