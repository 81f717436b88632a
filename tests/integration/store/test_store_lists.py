"""Lists by user, kind, state and endpoint are right after whatever happened to whichever job."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_world import World, again, collecting, completed, failed, retried

from ryla_tasks.jobs.lifecycle import Decision
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import POLLED, State
from ryla_tasks.store.answers import Claim
from ryla_tasks.store.listing import list_records

USERS, KINDS, ENDPOINTS = ("", "ann", "bob"), ("image", "lora"), ("image", "special")


def listed(world: World, **filters: object) -> list[str]:
    return [record.job_id for record in list_records(world.client, "ryla", **filters)]  # type: ignore[arg-type]


class Model:
    """What should be so: every job that was made and not swept, oldest first, with its state."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.states: dict[str, State] = {}
        self.facts: dict[str, dict[str, str]] = {}

    def create(self, user: str, kind: str, endpoint: str) -> None:
        job_id = self.world.job(user_id=user, kind=kind, endpoint=endpoint)
        self.states[job_id] = State.QUEUED
        self.facts[job_id] = {"user_id": user, "kind": kind, "endpoint": endpoint}

    def pick(self, number: int) -> str | None:
        return list(self.states)[number % len(self.states)] if self.states else None

    def submit(self, job_id: str) -> None:
        if self.states[job_id] is State.QUEUED:
            # Users take turns: it may be another job of the endpoint that is claimed.
            claimed = self.world.claim(job_id, endpoint=self.facts[job_id]["endpoint"]).record.job_id
            assert self.states[claimed] is State.QUEUED
            assert self.facts[claimed]["endpoint"] == self.facts[job_id]["endpoint"]
            self.states[claimed] = State.SUBMITTING

    def accept(self, job_id: str) -> None:
        record = self.world.record(job_id)
        remote_id = f"{job_id} {record.attempt}"
        accepted = self.world.accept(record, remote_id)
        if self.states[job_id] is State.SUBMITTING:
            self.states[job_id] = State.WAITING
            assert not accepted.orphan
        else:
            assert accepted.orphan is (record.remote_id != remote_id)

    def poll(self, job_id: str, decide: Callable[[JobRecord], Decision]) -> None:
        """Polls change the job if it is polled, and leave the others of the ride as they are."""
        ride = self.world.ride()
        decisions = [decide(r) if r.job_id == job_id else again(r) for r in ride.records]
        assert all(self.world.settle(ride, *decisions).counted)
        polled = [decision.record.state for decision in decisions if decision.record.job_id == job_id]
        assert bool(polled) is (self.states[job_id] in POLLED)
        if polled:
            stopped = polled[0] in (State.QUEUED, State.FAILED) and self.world.record(job_id).cancel
            self.states[job_id] = State.CANCELLED if stopped else polled[0]

    def collect(self, job_id: str) -> None:
        claim = self.world.store.claim_deliver(job_id=job_id, lease_s=9)
        assert isinstance(claim, Claim) is (self.states[job_id] is State.COLLECTING or self._undelivered(job_id))
        if isinstance(claim, Claim):
            if self.states[job_id] is State.COLLECTING:
                self.world.store.settle(claim, completed(claim.record))
                self.states[job_id] = State.COMPLETED
            else:
                self.world.store.release(claim)

    def cancel(self, job_id: str) -> None:
        word, _deliveries = self.world.store.cancel(job_id)
        assert (word == "ended") is (self.states[job_id] is State.QUEUED)
        if word == "ended":
            self.states[job_id] = State.CANCELLED

    def deliver(self, job_id: str) -> None:
        assert self.world.store.delivered(job_id) is self.states[job_id].ended

    def expire(self, job_id: str) -> None:
        if self.world.has("expiry", job_id):
            self.world.past("expiry", job_id)
            self.world.sweep()
            del self.states[job_id], self.facts[job_id]

    def check(self) -> None:
        newest_first = list(reversed(self.states))
        assert listed(self.world) == newest_first
        for state in State:
            assert listed(self.world, state=state) == [j for j in newest_first if self.states[j] is state]
        for user, kind, endpoint in itertools.product((None, *USERS[1:]), (None, *KINDS), (None, *ENDPOINTS)):
            wanted = {"user_id": user, "kind": kind, "endpoint": endpoint}
            given_ = {name: value for name, value in wanted.items() if value is not None}
            fits = [j for j in newest_first if given_.items() <= self.facts[j].items()]
            assert listed(self.world, **given_) == fits
        for key in self.world.client.scan_iter("ryla:idx:*"):
            assert {member.decode() for member in self.world.client.zrange(key, 0, -1)} <= self.states.keys(), key

    def _undelivered(self, job_id: str) -> bool:
        return self.world.has("due:deliver", job_id)


POLLS: dict[str, Callable[[JobRecord], Decision]] = {
    "run": lambda record: again(record, state=State.RUNNING),
    "fail": failed,
    "retry": retried,
    "found": collecting,
}
#: What usually comes next; the random steps before and between make the rest.
NEXT = {
    State.QUEUED: "submit", State.SUBMITTING: "accept", State.WAITING: "run", State.RUNNING: "found",
    State.COLLECTING: "collect",
}  # fmt: skip
FACTS = st.tuples(st.sampled_from(USERS), st.sampled_from(KINDS), st.sampled_from(ENDPOINTS))
OTHERS = ("submit", "accept", "collect", "cancel", "deliver", "expire", *POLLS)
STEPS = st.tuples(st.sampled_from(("create", "next", "next", "next", "next", *OTHERS)), st.integers(0, 3), FACTS)


def take(model: Model, name: str, job_id: str) -> None:
    if name == "next":
        state = model.states[job_id]
        ended = "expire" if model.world.has("expiry", job_id) else "deliver"
        name = ended if state.ended else NEXT[state]
    if name in POLLS:
        model.poll(job_id, POLLS[name])
    else:
        getattr(model, name)(job_id)


@given(steps=st.lists(STEPS, min_size=20, max_size=60))
@settings(
    max_examples=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_lists_stay_right_whatever_happens(world: World, steps: list[tuple[str, int, tuple[str, str, str]]]) -> None:
    world.client.flushall()
    model = Model(world)
    for name, number, facts in steps:
        job_id = model.pick(number)
        if name == "create" or job_id is None:
            model.create(*facts)
            continue
        take(model, name, job_id)
        assert job_id not in model.states or world.state(job_id) is model.states[job_id]
    model.check()


def test_a_long_list_is_whole_while_jobs_come_and_leave_it(world: World) -> None:
    jobs = [world.job() for _ in range(450)]
    found = []
    for number, record in enumerate(list_records(world.client, "ryla", state=State.QUEUED)):
        found.append(record.job_id)
        if number == 150:
            for job_id in jobs[-100:]:
                world.claim(job_id)
            for _ in range(50):
                world.job()
    assert found == list(reversed(jobs))


def test_a_list_ends_with_nothing_where_nothing_fits(world: World) -> None:
    world.job(user_id="ann")
    assert listed(world, user_id="bob") == []
    assert listed(world, user_id="ann", state=State.RUNNING) == []


@pytest.mark.parametrize("user", ["ann:x", "kind:image", "*", "ä b"])
def test_users_of_any_name_have_their_own_list(world: World, user: str) -> None:
    world.job(user_id="ann")
    job_id = world.job(user_id=user)
    assert listed(world, user_id=user) == [job_id]
