"""Text that Python takes and Lua's JSON does not: half a surrogate pair, as a GPU worker's error may hold it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from store_world import ENDPOINT, FREE, TARGET, World, failed

from ryla_tasks.errors import JobFailed
from ryla_tasks.jobs.alternative import Alternative
from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.jobs.falling_back import fallen_back
from ryla_tasks.jobs.health import Health
from ryla_tasks.jobs.lifecycle import Decision, Step
from ryla_tasks.jobs.stuck import Watch
from ryla_tasks.store.answers import Candidate, Claim
from ryla_tasks.store.budgets import Terms
from ryla_tasks.store.targets import TargetStore

HALF = "it broke \ud83d"
BOTH = (Candidate(TARGET, FREE), Candidate("runpod:second", FREE))


def test_a_fallback_from_an_error_with_half_a_character_does_not_stop_the_line(world: World) -> None:
    other = Alternative(FallbackKind.WORKFLOW, HALF, "small", ("out_of_memory",), 0, 15.0)
    job_id = world.job(fallbacks=(other,), other_inputs=('{"n":2}',))
    world.accept(world.claim(job_id).record)
    ride = world.ride()
    error = JobFailed(HALF, {"code": "out_of_memory", "category": "permanent", "details": {"error": HALF}})
    after, place = fallen_back(ride.records[0], error, 0) or pytest.fail("no fallback")
    world.settle(ride, Decision(after, Step.SUBMIT, event="fallback", fallback_input=place))
    claim = world.store.claim_submit(ENDPOINT, BOTH, job_id=job_id, lease_s=20, checked=True)
    assert isinstance(claim, Claim)
    assert claim.payload == {"n": 2}


def test_a_label_with_half_a_character_does_not_stop_the_line_of_a_priced_endpoint(world: World) -> None:
    world.job(label=HALF)
    priced = (Candidate(TARGET, FREE, Terms(0.01)),)
    claim = world.store.claim_submit(ENDPOINT, priced, job_id=None, lease_s=20)
    assert isinstance(claim, Claim)


def test_what_is_known_of_a_target_may_hold_half_a_character(world: World) -> None:
    targets = TargetStore(world.client, prefix="ryla")
    look = targets.look(TARGET, ask_every_s=30)
    assert targets.record_health(TARGET, look.right, Watch(world.now(), Health(world.now()), error=HALF))
    claim = world.store.claim_submit(ENDPOINT, BOTH, job_id=world.job(), lease_s=20)
    assert isinstance(claim, Claim)
    assert claim.record.target == "runpod:second"


def test_the_twin_of_a_job_that_ended_with_such_an_error(world: World) -> None:
    first = world.waiting(idempotency_key="k", digest="d")
    ride = world.ride()
    decision = failed(ride.records[0], HALF)
    observed = replace(decision.record.observed, message=HALF)
    world.settle(ride, replace(decision, record=decision.record.with_(observed=observed)))
    again = world.make(idempotency_key="k", digest="d", in_canvas=True)
    assert again.job_id != first
    assert world.record(again.job_id).state is world.record(first).state
