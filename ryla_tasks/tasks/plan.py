"""What a task asks for: the options that every job has, and the plan of one job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ryla_tasks.errors import InvalidJob, PayloadTooLarge
from ryla_tasks.jobs.fallback import FallbackKind
from ryla_tasks.jobs.falling_back import usual_codes
from ryla_tasks.jobs.record import JobSpec, OnUnknown
from ryla_tasks.jobs.states import Priority
from ryla_tasks.settings import Endpoint

__all__ = [
    "CellPlan",
    "FallbackPlan",
    "JobOptions",
    "JobPlan",
    "build_spec",
    "encode_input",
    "expected_run_s",
    "split_options",
    "targets_with",
    "wish_digest",
]

#: RunPod refuses a /run payload over 10 MB (operation-reference.mdx); what we add to the input fits in the rest.
MOST_INPUT_BYTES = 10 * 1024 * 1024 - 4_096

Tag = Annotated[str, Field(min_length=1, max_length=64)]


class JobOptions(BaseModel):
    """What may be said of any job, as keyword arguments beside the task's own.

    `deadline_s` counts from the enqueue; when it passes, the remote job is cancelled. `max_retries` overrides the
    task's. `max_cost_usd` is the most that the job may cost, in US dollars. `idempotency_key` is the user's own: the
    same key of the same user gives the same job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: str = Field("", max_length=128)
    tags: tuple[Tag, ...] = Field((), max_length=16)
    priority: Priority = Priority.NORMAL
    idempotency_key: str = Field("", max_length=255)
    deadline_s: float | None = Field(None, gt=0, le=30 * 86_400)
    max_retries: int | None = Field(None, ge=0, le=100)
    on_unknown: OnUnknown | None = None
    max_cost_usd: float | None = Field(None, gt=0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job: which endpoint, and the input that its GPU worker gets.

    The rest helps to judge and to tell: how many images must come back (None: cannot be known), the seed that was
    used, how long a run takes, a short public name for what it is, and the model files that it needs, which decide to
    which targets it may go. `fallbacks` are tried in their order where the input fails for good.

    With `cells` the job is a sheet: it has no remote job and needs no input of its own, its cells are jobs, and it has
    completed when all of them have ended and at least `min_cells` have a result. `kept` are results of cells that need
    not be made again, by name, out of the sheet that it `resumes`; `names` is the order of all, and `user_id` whose
    that was: nobody else's may resume it. `list_seeds` has the result say of which seed each image came.
    """

    input: Mapping[str, Any]
    endpoint: str = ""
    expected_images: int | None = None
    seed: int | None = None
    expected_run_s: float | None = None
    label: str = ""
    needs: tuple[str, ...] = ()
    fallbacks: tuple[FallbackPlan, ...] = ()
    cells: tuple[CellPlan, ...] = ()
    min_cells: int = 1
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    resumes: str = ""
    user_id: str = ""
    list_seeds: bool = False


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One cell of a sheet: its name (lower-case letters, digits and _), and what it runs."""

    name: str
    plan: JobPlan


@dataclass(frozen=True, slots=True)
class FallbackPlan:
    """What to try where a job has failed with one of the codes `on` and the same input would fail again.

    `on` are codes of docs/errors.md; None stands for a missing model or node, too little GPU memory, and the execution
    time-out. `plan` may have fallbacks of its own, for its own failures. Results, events and the log tell `kind`
    (`workflow`; `model` for the same workflow with other model files), and what was taken in place of what: `to`
    instead of `source`, which are the plans' labels where they are not given.
    """

    plan: JobPlan
    on: Sequence[str] | None = None
    kind: FallbackKind | str = FallbackKind.WORKFLOW
    source: str = ""
    to: str = ""

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the failures that it is tried after."""
        return usual_codes(FallbackKind(self.kind)) if self.on is None else tuple(self.on)


def split_options(kwargs: Mapping[str, Any]) -> tuple[JobOptions, dict[str, Any]]:
    """Part a task's keyword arguments into job options and its own. Raises `InvalidJob` naming the field."""
    given = {name: kwargs[name] for name in kwargs.keys() & JobOptions.model_fields.keys()}
    rest = {name: value for name, value in kwargs.items() if name not in given}
    if not given:
        return _NO_OPTIONS, rest
    try:
        return JobOptions.model_validate(given), rest
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidJob(f"{field}: {first['msg']}", field=field) from None


_NO_OPTIONS = JobOptions()


def encode_input(plan: JobPlan) -> str:
    """The endpoint's input as JSON. Raises `InvalidJob` or `PayloadTooLarge`, both for the field `input`."""
    if not isinstance(plan.input, Mapping) or not plan.input:
        raise InvalidJob("input: must be a non-empty JSON object; RunPod fails jobs with an empty one", field="input")
    try:
        text = json.dumps(plan.input, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(f"input: is not JSON: {error}", field="input") from None
    if size > MOST_INPUT_BYTES:
        raise PayloadTooLarge(
            f"input: is {size / 2**20:.1f} MB, and the endpoint takes 10 MB; put large files into storage and "
            f"pass their URLs",
            field="input",
        )
    return text


def wish_digest(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A short mark of what was asked for, to tell a repeated wish from another one under the same key.

    It is made of the arguments, not of the input: a seed drawn at random makes no other wish. Raises `InvalidJob`.
    """
    try:
        # Twice: only as JSON have all the keys of an object one type, and an order.
        plain = json.loads(json.dumps([task, list(args), dict(kwargs)], default=str))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJob(
            f"idempotency_key: the job's arguments cannot be compared with another's: {error}", field="idempotency_key"
        ) from None
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def build_spec(
    task: str,
    plan: JobPlan,
    options: JobOptions,
    endpoint: Endpoint,
    rules: Mapping[str, Any],
    *,
    webhook: bool = False,
) -> JobSpec:
    """The unchanging part of a job's record, from the plan, its options, its endpoint's settings, its task's rules.

    `webhook` says that RunPod will call us when the job has ended. Raises `InvalidJob` for a `max_cost_usd` at an
    endpoint without prices: nobody could keep it.
    """
    target = endpoint.primary
    if options.max_cost_usd is not None and any(one.price_per_s is None for one in endpoint.targets):
        raise InvalidJob(
            f"max_cost_usd: cannot be kept, because a target of the endpoint {endpoint.name} has no price; set its gpu "
            f"or price_per_s",
            field="max_cost_usd",
        )
    if endpoint.kind == "lora" and options.on_unknown is OnUnknown.RESUBMIT:
        raise InvalidJob("on_unknown: a training is never submitted again on a guess; use wait", field="on_unknown")
    return JobSpec(
        task=task,
        kind=endpoint.kind,
        endpoint=endpoint.name,
        user_id=options.user_id,
        tags=options.tags,
        priority=options.priority,
        idempotency_key=options.idempotency_key,
        deadline_s=options.deadline_s if options.deadline_s is not None else endpoint.deadline_s,
        on_unknown=options.on_unknown or _on_unknown(endpoint, webhook=webhook),
        max_retries=_first(options.max_retries, rules.get("max_retries"), endpoint.max_retries),
        backoff_s=_first(rules.get("backoff_s"), endpoint.retry_backoff_s),
        backoff_max_s=_first(rules.get("backoff_max_s"), endpoint.retry_backoff_max_s),
        jitter=_first(rules.get("jitter"), endpoint.retry_jitter),
        execution_timeout_s=endpoint.execution_timeout_s,
        ttl_s=endpoint.ttl_s,
        poll_min_s=endpoint.poll_min_s,
        poll_max_s=endpoint.poll_max_s,
        retention_s=endpoint.retention_s,
        expected_run_s=expected_run_s(plan),
        price_per_s=target.price_per_s or 0.0,
        webhook=webhook,
        only=_only(endpoint, plan),
        expected_images=plan.expected_images,
        seed=plan.seed,
        label=plan.label,
        max_cost_usd=_lowest(options.max_cost_usd, endpoint.max_cost_usd),
        list_seeds=plan.list_seeds,
    )


def expected_run_s(plan: JobPlan) -> float:
    """How many seconds one run of a plan is likely to take."""
    return plan.expected_run_s or 15.0


def targets_with(endpoint: Endpoint, needs: Sequence[str]) -> tuple[str, ...] | None:
    """The targets that have what a job needs; nothing where all have, None where none has."""
    fit = [target.id for target in endpoint.targets if not target.lacks(needs)]
    if not fit:
        return None
    return () if len(fit) == len(endpoint.targets) else tuple(fit)


def _only(endpoint: Endpoint, plan: JobPlan) -> tuple[str, ...]:
    """The targets that a job may go to, nothing for all. Raises `InvalidJob` where none has what it needs, unless it
    can fall back to what some target has: then it is sent to learn that."""
    only = targets_with(endpoint, plan.needs)
    if only is not None:
        return only
    for fallback in plan.fallbacks:
        if "missing_model" in fallback.codes and targets_with(endpoint, fallback.plan.needs) is not None:
            return ()
    missing = ", ".join(endpoint.primary.lacks(plan.needs))
    raise InvalidJob(
        f"workflow: no target of the endpoint {endpoint.name!r} has all the models that it needs; "
        f"{endpoint.primary.id} lacks {missing}",
        field="workflow",
    )


def _lowest(*values: float | None) -> float | None:
    """The lowest that is given, if any is."""
    return min((value for value in values if value is not None), default=None)


def _on_unknown(endpoint: Endpoint, *, webhook: bool) -> OnUnknown:
    """An image is worth another start rather than a lost user; a training never is."""
    return OnUnknown.RESUBMIT if webhook and endpoint.kind == "image" else OnUnknown.WAIT


def _first(*values: Any) -> Any:
    """The first that is given."""
    return next(value for value in values if value is not None)
