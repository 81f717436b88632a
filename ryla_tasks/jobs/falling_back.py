"""Taking a fallback: another input for a job whose present one has failed for good. Pure.

A job has its fallbacks in an order. Where an attempt has failed and no other may follow with the same input, the first
one that lists the failure's code takes the input's place; those before it are passed over for good. Each is taken once
at most, so a job ends after as many inputs as it has. What may still run, or is to stop, gets no fallback.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ryla_tasks.errors import JobError, OutputInvalid, OutputMissing
from ryla_tasks.jobs.alternative import Alternative
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.record import JobRecord, Observed
from ryla_tasks.jobs.states import State
from ryla_tasks.jobs.verdicts import FOLLOWED

__all__ = [
    "CODES",
    "MOST_FALLBACKS",
    "POISON",
    "alternative_for",
    "code_of",
    "fallen_back",
    "has_present_input",
    "lines_of",
    "problem_with",
    "told_of_the_first",
    "usual_codes",
]

#: How many a job may have: the input of each is kept with it until it ends.
MOST_FALLBACKS = 8

#: The code of a job whose input brought down GPU workers.
POISON = "poison_input"

#: Codes of failures that a fallback may follow. Not those after which the remote job may still run, or was cancelled.
CODES = FOLLOWED | {POISON, OutputMissing.code, OutputInvalid.code}

# Another model file is no help where a node is missing, and the workflow that crashes workers is the same.
_NOT_WITH_MODELS = frozenset({"missing_node", POISON})

_USUAL = (
    "missing_model", "model_loading", "model_forbidden", "missing_node", "out_of_memory", "training_memory",
    "remote_time_out",
)  # fmt: skip

_WORDS = {
    FallbackKind.MODEL: "Trying another model",
    FallbackKind.WORKFLOW: "Trying a simpler way",
    FallbackKind.ENDPOINT: "Trying elsewhere",
}

_MOST_DETAILS = 4_000


def usual_codes(kind: FallbackKind) -> tuple[str, ...]:
    """What a fallback helps against where nothing is said: a model or a node that is missing, too little GPU memory,
    the execution time-out."""
    barred = _NOT_WITH_MODELS if kind is FallbackKind.MODEL else frozenset()
    return tuple(code for code in _USUAL if code not in barred)


def problem_with(codes: Iterable[str], kind: FallbackKind) -> str:
    """What is wrong with a fallback's list of codes; empty where nothing is."""
    known = CODES - _NOT_WITH_MODELS if kind is FallbackKind.MODEL else CODES
    wrong = next((code for code in codes if code not in known), None)
    if wrong is None:
        return ""
    if wrong in CODES:
        return f"{wrong!r}: the same workflow with another model fails the same way; it needs another workflow"
    return f"{wrong!r} is no code that a fallback can follow; those are: {', '.join(sorted(known))}"


def code_of(error: JobError) -> str:
    """The code of a failure."""
    return str(error.info.get("code") or error.code)


def alternative_for(record: JobRecord, error: JobError) -> Alternative | None:
    """The fallback that a job takes after a failure like this, if it may take one."""
    place = _place_of(record, code_of(error))
    return None if place is None else record.spec.fallbacks[place]


def _place_of(record: JobRecord, code: str) -> int | None:
    if record.cancel:
        return None
    fallbacks, place = record.spec.fallbacks, 0
    while place < len(fallbacks):
        if code in fallbacks[place].on:
            return place
        place += 1 + fallbacks[place].own
    return None


def fallen_back(record: JobRecord, error: JobError, crashes: int) -> tuple[JobRecord, int] | None:
    """The record with the next fallback that helps against `error`, and where its input lies; None if there is none.

    It is in line for a new attempt, with its retries before it. What was spent stays on the bill. Workers that the same
    workflow has brought down (`crashes`) count on, those of another workflow do not.
    """
    why = code_of(error)
    place = _place_of(record, why)
    if place is None:
        return None
    taken, spec = record.spec.fallbacks[place], record.spec
    first = not any(line.error for line in record.fallbacks)
    line = Fallback(taken.kind, taken.source, taken.to, why, record.attempt, _kept(error) if first else None)
    observed = Observed(
        message=f"{error} {_WORDS[taken.kind]}",
        trouble=why,
        crashes=crashes if taken.kind is FallbackKind.MODEL else 0,
    )
    spec = replace(
        spec,
        expected_run_s=taken.expected_run_s,
        expected_images=taken.expected_images,
        seed=taken.seed,
        label=taken.label,
        only=taken.only,
        fallbacks=spec.fallbacks[place + 1 :],
    )
    after = record.with_(
        spec=spec,
        state=State.QUEUED,
        retries=0,
        fallbacks=(*record.fallbacks, line),
        observed=observed,
        remote_id="",
        submitted=0.0,
    )
    return after, taken.place


def has_present_input(record: JobRecord, attempt: int) -> bool:
    """Whether an attempt was made with the input that the job has now, and not with one that a fallback replaced."""
    exchanged = (line.attempt for line in record.fallbacks if line.kind is not FallbackKind.ENDPOINT)
    return attempt > max(exchanged, default=0)


def lines_of(record: JobRecord) -> list[dict[str, str]]:
    """The fallbacks that a job has taken, for its result. A target was left for the one that came next, if any did."""
    targets = [*(target for target, _why in record.left[1:]), record.target]
    lines = [line.to_json() for line in record.fallbacks]
    for line in lines:
        if line["kind"] == FallbackKind.ENDPOINT:
            target = targets.pop(0)
            line["to"] = target if target != line["from"] else ""
    return lines


def told_of_the_first(error: JobError, record: JobRecord) -> JobError:
    """The error that a job ends with; where it has taken fallbacks, its details name them and the first failure."""
    if not record.fallbacks:
        return error
    details = error.details if isinstance(error.details, dict) else {"details": error.details}
    first = next((line.error for line in record.fallbacks if line.error), {"code": record.fallbacks[0].why})
    told = {
        **details,
        "first_error": first,
        "fallbacks": lines_of(record),
    }
    return type(error)(str(error), {**error.info, "details": told})


def _kept(error: JobError) -> dict[str, Any]:
    """What is kept of the first failure, for the developer who has to mend it."""
    kept = {"code": code_of(error), "message": str(error)}
    text = json.dumps(error.details, default=str)
    details = error.details if len(text) <= _MOST_DETAILS else text[:_MOST_DETAILS]
    return {**kept, "details": details} if details is not None else kept
