"""Whatever happens to jobs, in whatever order, what was spent is what their attempts have cost and have reserved.

A random walk drives a real store as the engine does: claims, answers of the cloud through `advance`, settles once,
twice or never, cancels, deadlines, retries, submits without an answer, twins, over several days. After each step the
accounts of all jobs are added up and compared with what the days, the endpoints and the users have spent.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from store_world import World

from ryla_tasks.errors import AnswerLost, NotConnected, OutputInvalid
from ryla_tasks.jobs.budget import Ceiling, stopped
from ryla_tasks.jobs.cost import estimate
from ryla_tasks.jobs.lifecycle import (
    Collected,
    Decision,
    Missing,
    NotAccepted,
    Observation,
    OutcomeUnknown,
    OutputBad,
    Seen,
    Step,
    StillUnknown,
    Surroundings,
    Uncollected,
    advance,
)
from ryla_tasks.jobs.record import CancelReason, JobRecord, OnUnknown
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import POLLED, State
from ryla_tasks.store.answers import Candidate, Claim, Rate
from ryla_tasks.store.budgets import Budgets, Terms

ENDPOINTS = ("image", "lora")
TARGETS = {"runpod:a": Terms(0.01, 0.01), "runpod:b": Terms(0.0037, 0.0), "runpod:free": None}
BUDGETS = {"image": 2.0}
USER_BUDGET = 1.5
FREE = Rate(per_s=100_000, burst=100_000, under_way=100_000)
RETRYING = Surroundings(may_retry=lambda _error: True)

#: How often something happens, against the rest.
STEPS = {
    "create": 8, "claim": 12, "answer_submit": 16, "turn_up": 3, "ride": 16, "collect": 8, "cancel": 3, "deadline": 1,
    "leases_end": 1, "next_day": 1, "time_goes_by": 4,
}  # fmt: skip

CAME_OF_IT = {"taken": 7, "refused": 1, "no answer": 3, "put back": 1, "told late": 1, "dies": 1}

STATUSES = {
    RemoteStatus.IN_QUEUE: 3, RemoteStatus.IN_PROGRESS: 14, RemoteStatus.COMPLETED: 3, RemoteStatus.FAILED: 1,
    RemoteStatus.CANCELLED: 1, RemoteStatus.TIMED_OUT: 1, RemoteStatus.OTHER: 1,
}  # fmt: skip


class Walk:
    """Steps of the engine, drawn at random. `happened` counts what came of them."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.day, self.ahead_s = 0, 0.0
        self.store = world.new_store(Budgets(BUDGETS, USER_BUDGET, lambda: self.day * 86_400))
        self.jobs: list[str] = []
        self.claims: list[Claim] = []
        self.late: list[tuple[JobRecord, str]] = []
        self.happened: Counter[str] = Counter()

    def step(self) -> None:
        name = self._weighted(STEPS)
        getattr(self, name)()
        self.check(name)

    # --- what happens ---

    def create(self) -> None:
        key = self._one(["", "", "", "", "", "", "k"])
        created = self.world.make(
            endpoint=self._one(ENDPOINTS), user_id=self._one(["", "ann", "bob"]), on_unknown=self._one(list(OnUnknown)),
            expected_run_s=self._one([0.0, 0.00001, 10.0, 33.3]), max_cost_usd=self._one([None, None, None, 0.05, 0.9]),
            ttl_s=600.0, execution_timeout_s=60.0, max_retries=self._one([0, 1]), idempotency_key=key,
            in_canvas=bool(key),
        )  # fmt: skip
        self.jobs.append(created.job_id)

    def claim(self) -> None:
        endpoint, places = self._one(ENDPOINTS), [*TARGETS]
        self.chance.shuffle(places)
        candidates = [Candidate(at, FREE, self._terms(at)) for at in places[: self._one([1, 2, 3])]]
        self._overdue(f"submit:{endpoint}", held=False)
        before = self._spent(endpoint)
        claim = self.store.claim_submit(endpoint, candidates, job_id=None, lease_s=60, checked=True)
        for one in claim.news.over:
            assert self.world.state(one.job_id) is State.FAILED
            self.happened[f"refused {one.ceiling}"] += 1
        if not isinstance(claim, Claim):
            return
        self.claims.append(claim)
        if TARGETS[claim.record.target] and not claim.lost:
            after = self._spent(endpoint)
            assert after - before == claim.record.money.reserved
            if endpoint in BUDGETS:
                assert after <= BUDGETS[endpoint] * 1e6, "what is not there is not promised"
                assert claim.news.spends[0].amount == after

    def answer_submit(self) -> None:
        if not self.claims:
            return
        claim = self.claims.pop(self.chance.randrange(len(self.claims)))
        record, came = claim.record, self._weighted(CAME_OF_IT)
        remote_id = f"r-{record.job_id}-{record.attempt}"
        if claim.lost:
            self._settle(claim, StillUnknown() if record.state is State.UNKNOWN else OutcomeUnknown())
        elif came == "taken":
            self.store.accept(record, remote_id, 0.0, 0.0)
        elif came == "refused":
            self._settle(claim, NotAccepted(NotConnected("no")))
        elif came == "put back":
            back = record.with_(state=State.QUEUED, money=record.money.closed(0))
            self.store.settle(claim, Decision(back, Step.SUBMIT))
        elif came != "dies":
            self.late.append((record, remote_id))
            if came == "no answer":
                self._settle(claim, OutcomeUnknown(AnswerLost("lost")))

    def turn_up(self) -> None:
        """A submit that had no answer was taken after all; it may turn up twice."""
        if not self.late:
            return
        record, remote_id = self._one(self.late)
        if self.world.record(record.job_id).attempt != record.attempt or self._one([True, False]):
            word, _ = self.store.adopt_twin(record, record.target, remote_id, 0.0, TARGETS[record.target])
            self.happened[f"twin {word}"] += 1
        else:
            self.store.accept(record, remote_id, 0.0, 0.0)

    def ride(self) -> None:
        """All that is at a target, whoever had it; of some rides nothing comes."""
        at = self._one(["runpod:a", "runpod:a", *TARGETS])
        self._overdue(f"poll:{at}")
        ride = self.store.claim_polls(at, most=64, lease_s=8, rate=FREE, most_rides=100_000)
        if not ride.records or self.chance.random() < 0.1:
            return
        pairs = [(record, self._decided(record, self._answer())) for record in ride.records]
        settled = self.store.settle_ride(ride, pairs, last=True)
        for record, decision in pairs:
            self.happened["started"] += decision.start is not None
            self.happened["moved on"] += decision.event == "failover"
            self.happened["grown"] += decision.record.money.reserved > record.money.reserved
            if decision.over:
                self.store.cancel(record.job_id, CancelReason.BUDGET, stopped(Ceiling.JOB))
                self.happened["over its own ceiling"] += 1
        for one in settled.news.over:
            self.store.cancel(one.job_id, CancelReason.BUDGET, stopped(one.ceiling))
            self.happened[f"over {one.ceiling}"] += 1

    def collect(self) -> None:
        self._overdue("deliver")
        claim = self.store.claim_deliver(job_id=None, lease_s=60)
        if not isinstance(claim, Claim):
            return
        if claim.record.state.ended:
            self.store.delivered(claim.record.job_id)
            return
        cost = estimate(claim.record, self._one([None, 1_200, 50_000]), self._one([None, 700]))
        done, bad = Collected({"cost": cost}), OutputBad(OutputInvalid("x"))
        self._settle(claim, self._one([done, done, bad, bad, Uncollected("x"), self._answer()]))

    def cancel(self) -> None:
        if job_id := self._some_job():
            before = self.world.state(job_id)
            word, _ = self.store.cancel(job_id, self._one(list(CancelReason)))
            self.happened[f"cancel {before}: {word}"] += 1

    def deadline(self) -> None:
        if job_id := self._some_job():
            self.world.client.zadd("ryla:deadlines", {job_id: self._ago()})
            self.store.sweep(grace_s=1.0, most=200, most_resends=64)

    def leases_end(self) -> None:
        """All that is claimed for a submit is so no more; half of who had it does not know."""
        for endpoint in ENDPOINTS:
            self._overdue(f"submit:{endpoint}")
        self.claims = [claim for claim in self.claims if self._one([True, False])]

    def next_day(self) -> None:
        self.day += 1

    def time_goes_by(self) -> None:
        self.ahead_s += self._one([2.0, 40.0, 300.0])

    # --- what must hold ---

    def check(self, step: str) -> None:
        pipe = self.world.client.pipeline()
        for job_id in self.jobs:
            pipe.hmget(f"ryla:job:{job_id}", "state", "endpoint", "user", "paid", "reserved")
        owed: Counter[str] = Counter()
        for job_id, (state, endpoint, user, *amounts) in zip(self.jobs, pipe.execute(), strict=True):
            paid, reserved = (int(amount or 0) for amount in amounts)
            assert paid >= 0, (step, job_id, paid)
            if State(state.decode()).ended or state == b"queued":
                assert reserved == 0, (step, job_id, state, reserved)
            owed[f"endpoint:{endpoint.decode()}"] += paid + reserved
            if user:
                owed[f"user:{user.decode()}"] += paid + reserved
        spent: Counter[str] = Counter()
        for key in self.world.client.keys("ryla:spend:*"):
            for field, amount in self.world.client.hgetall(key).items():
                assert int(amount) >= 0, (step, key, field, amount)
                spent[field.decode()] += int(amount)
        assert +spent == +owed, step

    # --- how ---

    def _some_job(self) -> str:
        """A job, each state being as likely."""
        by_state: dict[State, list[str]] = {}
        for job_id in self.jobs:
            by_state.setdefault(self.world.state(job_id), []).append(job_id)
        return self._one(by_state[self._one(list(by_state))]) if by_state else ""

    def _answer(self) -> Observation:
        if self.chance.random() < 0.05:
            return Missing()
        return Seen(
            RemoteJob(
                "r",
                self._weighted(STATUSES),
                delay_ms=self._one([None, 500, 30_000]),
                execution_ms=self._one([None, None, 900, 20_000]),
                worker_id=self._one([None, "w-a", "w-a", "w-a", "w-b"]),
            )
        )

    def _decided(self, record: JobRecord, observation: Observation) -> Decision:
        if record.state in POLLED and self._one([True, False]):
            record = record.with_(observed=replace(record.observed, cold=True))
        if record.state in POLLED and self._one([True, False, False]):
            record = record.with_(observed=replace(record.observed, leaving="no_worker"))
        around = replace(RETRYING, elsewhere=self._one(["", "runpod:b"]))
        return advance(record, observation, self.world.now() + self.ahead_s, around)

    def _terms(self, at: str) -> Terms | None:
        terms = TARGETS[at]
        return replace(terms, run_s=21.7) if terms and self._one([True, False]) else terms

    def _settle(self, claim: Claim, observation: Observation) -> None:
        """Once or, as when a message is doubled, twice."""
        decision = self._decided(claim.record, observation)
        keep = decision.record.state.ended and claim.record.state is State.COLLECTING
        for _ in range(self._one([1, 2])):
            settled = self.store.settle(claim, decision, keep=keep)
            if settled.counted[0]:
                self.happened[f"{claim.record.state} to {decision.record.state}"] += 1

    def _overdue(self, where: str, *, held: bool = True) -> None:
        """All that waits there is due, even what somebody holds (not `held`: but for that)."""
        due, endpoint = f"ryla:due:{where}", where.removeprefix("submit:")
        for job_id, score in self.world.client.zrange(due, 0, -1, withscores=True):
            if held or score % 1000 == 0:
                self.world.client.zadd(due, {job_id: self._ago()})
                self.world.client.zadd(f"ryla:later:{endpoint}", {job_id: self._ago()}, xx=True)

    def _ago(self) -> int:
        return (round(self.world.now() * 1000) - 1_000) * 1000

    def _spent(self, endpoint: str) -> int:
        day = int((self.world.now() + self.day * 86_400) // 86_400)
        return int(self.world.client.hget(f"ryla:spend:{day}", f"endpoint:{endpoint}") or 0)

    def _one(self, values: Any) -> Any:
        return self.chance.choice(values)

    def _weighted(self, weights: dict[Any, int]) -> Any:
        return self.chance.choices(list(weights), list(weights.values()))[0]


#: What a walk of some length comes by; else it would prove little.
MET = {
    "refused budget_job", "refused budget_user", "refused budget_endpoint", "over its own ceiling", "over budget_user",
    "over budget_endpoint", "grown", "started", "moved on", "twin kept", "cancel queued: ended",
    "cancel unknown: ended", "cancel submitting: asked", "cancel running: remote", "cancel completed: over",
    "submitting to queued", "submitting to unknown", "submitting to failed", "unknown to queued", "unknown to failed",
    "collecting to completed", "collecting to failed", "collecting to running",
}  # fmt: skip


def test_spent_is_what_was_paid_and_reserved_whatever_happens(world: World) -> None:
    met: set[str] = set()
    for seed in range(100):
        if seed >= 6 and met >= MET:
            break
        world.client.flushall()
        walk = Walk(world, seed)
        for _ in range(150):
            walk.step()
        met |= set(+walk.happened)
    assert met >= MET, MET - met
