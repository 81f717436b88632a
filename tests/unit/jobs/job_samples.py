"""Specs, records and answers for the tests of the pure core, made by hand and by hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from ryla_tasks.errors import (
    AnswerLost,
    EndpointNotFound,
    MalformedAnswer,
    NotConnected,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServerError,
    Unauthorized,
)
from ryla_tasks.jobs.alternative import Alternative
from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.jobs.lifecycle import Surroundings
from ryla_tasks.jobs.record import JobRecord, JobSpec, Observed
from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.states import Priority, State

SUBMITTED = 1_000_000.0

#: A clock reading some time after the grace for a new job that /status does not know yet.
NOW = SUBMITTED + 100.0


def make_spec(**changes: Any) -> JobSpec:
    return JobSpec(**{"task": "ryla.generate_image", "kind": "image", "endpoint": "image", **changes})


def make_record(state: State = State.WAITING, /, **changes: Any) -> JobRecord:
    """A job that was submitted once; `spec_...` and `observed_...` set fields of its spec and of what was observed."""
    spec = {name[5:]: changes.pop(name) for name in list(changes) if name.startswith("spec_")}
    seen = {name[9:]: changes.pop(name) for name in list(changes) if name.startswith("observed_")}
    fields: dict[str, Any] = {
        "attempt": 1,
        "target": "runpod:ep1",
        "remote_id": "r-1",
        "created": SUBMITTED - 1.0,
        "submitted": SUBMITTED,
        "observed": Observed(**seen),
    }
    return JobRecord("job-1", make_spec(**spec), state, **{**fields, **changes})


def remote(status: RemoteStatus, /, **fields: Any) -> RemoteJob:
    return RemoteJob("r-1", status, str(status), **fields)


def always(_error: Exception) -> bool:
    return True


#: A task whose rule retries whatever fails.
RETRYING = Surroundings(may_retry=always)
PLAIN = Surroundings()

#: What a worker or a server may send as text, the unkind included.
UNKIND_TEXTS = (
    "",
    "boom",
    "NaN",
    "[" * 1_500,
    '{"error_type": "ValueError", "error_message": "no"}',
    '{"value": Infinity}',
    '"\\ud800"',
    "A" * 300,
    "https://bucket.example/key?X-Amz-Signature=5ec2e7",
)

#: What a worker says of failures that may pass, that bring it down, and that would come again.
FAILURES = (
    "CUDA out of memory",
    "job timed out after 1 retries",
    "Cannot execute because node NoSuchNode does not exist.",
)

#: Progress that a worker may report, with sense or without.
REPORTS = (
    None,
    True,
    0,
    12,
    12.5,
    99.99,
    250,
    -3,
    10**400,
    float("nan"),
    float("-inf"),
    [],
    {},
    {"percent": 40, "message": "Sampling", "node": "KSampler"},
    {"progress": 55.5},
    {"step": 3, "steps": 20},
    {"step": 30, "totalSteps": 20},
    {"step": 10**400, "steps": 7},
    {"step": 1, "steps": 0},
    {"step": "1", "steps": None, "percent": "40", "message": 4, "node": {}},
    {"message": "x" * 5_000},
    *UNKIND_TEXTS,
)


def one_of(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One of the values; unlike `sampled_from` it does not show them all where hypothesis explains itself."""
    return st.integers(0, len(values) - 1).map(lambda place: values[place])


TEXTS = one_of(UNKIND_TEXTS) | st.text(max_size=40)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400)
JSONISH = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ANY_REPORT = (
    one_of(REPORTS)
    | JSONISH
    | st.fixed_dictionaries(
        {},
        optional={
            name: _SCALARS | st.floats(-10, 110) | st.integers(0, 40)
            for name in ("percent", "progress", "step", "steps", "totalSteps", "message", "node")
        },
    )
)

_MS = st.none() | st.integers(0, 10_000_000)

UNDER_WAY = (RemoteStatus.IN_QUEUE, RemoteStatus.IN_PROGRESS, RemoteStatus.IN_PROGRESS, RemoteStatus.OTHER)
BROKEN = (RemoteStatus.FAILED, RemoteStatus.TIMED_OUT, RemoteStatus.CANCELLED)


def answers(statuses: Sequence[RemoteStatus]) -> st.SearchStrategy[RemoteJob]:
    """What the cloud may say of a job in one of these statuses."""
    return st.builds(
        RemoteJob,
        remote_id=st.just("r-1"),
        status=one_of(statuses),
        raw_status=one_of(["", "IN_QUEUE", "PAUSED"]),
        delay_ms=one_of([None, 0, 61_372]),
        execution_ms=one_of([None, None, 0, 1, 42_078]),
        worker_id=one_of([None, "w-a", "w-b"]),
        output=one_of(REPORTS),
        error=one_of([None, *UNKIND_TEXTS, *FAILURES]),
        retries=one_of([0, 0, 0, 1, 2]),
    )


TRUNCATED = RemoteJob("r-1", RemoteStatus.OTHER, truncated=True)

_RETRY_AFTER = one_of([None, None, 0.0, 0.5, 7.0, 120.0, 86_400.0, 1e12])


def _errors(*kinds: type[ProviderError]) -> st.SearchStrategy[ProviderError]:
    return st.builds(
        lambda kind, retry_after: kind(
            "as told", endpoint_id="ep1", http_status=500, retry_after=retry_after, body="b"
        ),
        one_of(kinds),
        _RETRY_AFTER,
    )


TROUBLES = _errors(AnswerLost, NotConnected, RateLimited, ServerError, Unauthorized, EndpointNotFound, MalformedAnswer)
REFUSALS = _errors(NotConnected, RateLimited, RequestRejected, Unauthorized, EndpointNotFound)
LOSSES = st.none() | _errors(AnswerLost, ServerError, MalformedAnswer)


def make_alternative(place: int, /, *on: str, **changes: Any) -> Alternative:
    """A fallback to the input at a place; all that a spec takes from it tells which one it is."""
    fields: dict[str, Any] = {
        "kind": FallbackKind.WORKFLOW,
        "source": "first",
        "to": f"input-{place}",
        "expected_run_s": 5.0 + place,
        "expected_images": 1 + place,
        "seed": place,
        "label": f"input-{place}",
        "only": (f"runpod:{place}",),
    }
    return Alternative(on=on, place=place, **{**fields, **changes})


#: Codes of what the observations here may end with, and one of what they do not.
WHY = (
    "worker_error", "out_of_memory", "missing_node", "worker_crashed", "poison_input", "remote_time_out",
    "output_invalid", "output_missing", "rate_limited", "not_connected", "submit_rejected", "training_memory",
)  # fmt: skip


@st.composite
def alternatives(draw: st.DrawFn) -> tuple[Alternative, ...]:
    """The fallbacks of a job, some with fallbacks of their own."""
    count = draw(one_of([0, 0, 0, 1, 2, 3, 4]))
    return tuple(
        make_alternative(
            place,
            *draw(st.sets(one_of(WHY), min_size=1, max_size=6)),
            kind=draw(one_of([FallbackKind.MODEL, FallbackKind.WORKFLOW])),
            own=min(draw(one_of([0, 0, 1, 2])), count - 1 - place),
        )
        for place in range(count)
    )


SPECS = st.builds(
    make_spec,
    user_id=st.text(max_size=8),
    tags=st.lists(st.text(max_size=6), max_size=3).map(tuple),
    priority=st.sampled_from(Priority),
    idempotency_key=st.text(max_size=8),
    deadline_s=st.none() | st.floats(1, 1e6),
    max_retries=st.integers(0, 3),
    backoff_s=st.floats(0.1, 30),
    backoff_max_s=st.floats(30, 600),
    jitter=st.booleans(),
    ttl_s=st.sampled_from([10.0, 60.0, 600.0]),
    poll_min_s=st.floats(1, 5),
    poll_max_s=st.floats(5, 60),
    expected_run_s=st.floats(0, 1e4),
    price_per_s=st.just(0.0) | st.floats(1e-5, 0.01),
    max_cost_usd=st.none() | st.floats(1e-4, 10),
    expected_images=st.none() | st.integers(0, 8),
    seed=st.none() | st.integers(0, 2**63),
    label=st.text(max_size=8),
    fallbacks=alternatives(),
)

OBSERVED = st.builds(
    Observed,
    percent=st.floats(0, 99.9),
    message=st.text(max_size=20),
    step=st.none() | st.integers(0, 100),
    steps=st.none() | st.integers(0, 100),
    node=st.text(max_size=8),
    status=st.sampled_from(["", "IN_QUEUE", "IN_PROGRESS"]),
    worker_id=st.sampled_from(["", "w-a"]),
    dispatches=st.integers(0, 3),
    delay_ms=_MS,
    execution_ms=_MS,
    banked_ms=st.integers(0, 10**6),
    running_since=st.just(0.0) | st.floats(SUBMITTED, NOW),
    missing_since=st.just(0.0) | st.floats(SUBMITTED, NOW),
    troubles=st.integers(0, 20),
    trouble=st.text(max_size=8),
)
