"""A named endpoint: where its jobs go, and how long, how often and how hard to try."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ryla_tasks.config.targets import Name, Target

__all__ = ["Endpoint", "Given", "Kind", "NamedValue", "named", "opened"]

Kind = Literal["image", "lora", "special"]

_MINUTE = 60.0
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Given:
    """An endpoint as one source gave it. Opaque on purpose: the source that wins sets the endpoint whole, where two
    plain dicts would be merged key by key into an endpoint that nobody wrote."""

    value: Any
    problem: str = ""


@dataclass(frozen=True, slots=True)
class NamedValue:
    """What stands under a name in the endpoints setting, before it is an `Endpoint`."""

    name: str
    value: Any


def opened(value: Any) -> Any:
    """What is in a `Given`, or any other value as it is. Raises `ValueError` with the problem of a `Given`."""
    if not isinstance(value, Given):
        return value
    if value.problem:
        raise ValueError(value.problem)
    return value.value


def named(name: str, value: Any) -> Any:
    """What to validate as the endpoint `name`: an `Endpoint` of that name as it is, anything else with its name."""
    inner = value.value if isinstance(value, Given) else value
    return inner if isinstance(inner, Endpoint) and inner.name == name else NamedValue(name, value)


def _by_kind(image: float, lora: float, special: float) -> Callable[[dict[str, Any]], Any]:
    defaults = {"image": image, "lora": lora, "special": special}
    return lambda data: defaults[data["kind"]]


def _default_kind(data: dict[str, Any]) -> Kind:
    name = data["name"]
    return name if name in ("image", "lora", "special") else "special"


class Endpoint(BaseModel):
    """A name that jobs are sent to, for instance `image`.

    Times are seconds. Where a default differs by kind it stands as image / lora / special.
    """

    # Defaults are checked too, because what is right for a default depends on what the user set beside it.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    name: Name = Field(description="What jobs and settings call the endpoint.")
    kind: Kind = Field(
        default_factory=_default_kind,
        description="What runs there, which sets the defaults below. Default: the name if it is a kind, else special.",
    )
    targets: tuple[Target, ...] = Field(
        description="Where the jobs go, in order of preference. One endpoint id stands for one target."
    )
    execution_timeout_s: float = Field(
        default_factory=_by_kind(10 * _MINUTE, 4 * _HOUR, 30 * _MINUTE),
        ge=5,
        le=7 * _DAY,
        description="How long a job may run on a GPU worker before RunPod ends it; waiting does not count. "
        "Default 10 min / 4 h / 30 min.",
    )
    ttl_s: float = Field(
        default_factory=_by_kind(_HOUR, _DAY, 2 * _HOUR),
        ge=10,
        le=7 * _DAY,
        description="How long RunPod keeps a job from its submission on. When it is over RunPod deletes the job, even "
        "a running one, so it is longer than execution_timeout_s and the longest queue. Default 1 h / 24 h / 2 h.",
    )
    deadline_s: float = Field(
        default_factory=_by_kind(_HOUR, _DAY, 2 * _HOUR),
        ge=1,
        le=14 * _DAY,
        description="How long a job may take in all, from its creation to its end, retries included; then it is "
        "cancelled and timed out. A job's own deadline_s comes first. Default 1 h / 24 h / 2 h.",
    )
    max_retries: int = Field(
        default_factory=_by_kind(3, 1, 3),
        ge=0,
        le=20,
        description="How often a job is submitted again after an error that may pass. Default 3 / 1 / 3.",
    )
    retry_backoff_s: float = Field(
        default_factory=_by_kind(1, 30, 1),
        ge=0.1,
        le=_HOUR,
        description="The wait before the first retry; it doubles with each further one. Default 1 / 30 / 1.",
    )
    retry_backoff_max_s: float = Field(
        default_factory=_by_kind(60, 600, 60),
        ge=0.1,
        le=_HOUR,
        description="The longest wait before a retry, unless RunPod asks for a longer one. Default 60 / 600 / 60.",
    )
    retry_jitter: bool = Field(
        default=True,
        description="Draw each wait at random between nothing and its full length, so that jobs that failed "
        "together do not come back together.",
    )
    poll_min_s: float = Field(
        default_factory=_by_kind(1, 5, 1),
        ge=0.25,
        le=30,
        description="The shortest time between two questions about one job. Default 1 / 5 / 1.",
    )
    poll_max_s: float = Field(
        default_factory=_by_kind(10, 30, 15),
        ge=0.25,
        le=30,
        description="The longest time between two questions about one job. At most 30. Default 10 / 30 / 15.",
    )
    on_stuck: Literal["wait", "failover"] = Field(
        default_factory=lambda data: "failover" if len(data.get("targets", ())) > 1 else "wait",
        description="What becomes of waiting jobs when no worker can come: failover, they are cancelled there and go "
        "to the next target that is fit; wait, until their deadline. An event and an alert are raised in any case. "
        "Default: failover where there is more than one target.",
    )
    correlate: bool = Field(
        default=True,
        description="Whether a job's input says under `ryla` which job and attempt it is, so that a GPU worker can "
        "name them. Switch it off for a handler that refuses input it does not know, as RunPod's rp_validator does.",
    )
    max_cost_usd: float | None = Field(
        default=None,
        gt=0,
        description="The most that a job may cost, in US dollars. It is not sent if it is expected to cost more, and "
        "is stopped when it does. A job's own max_cost_usd can only be lower. Default: no limit.",
    )
    daily_budget_usd: float | None = Field(
        default=None,
        gt=0,
        description="What the endpoint's jobs may cost in a day, in US dollars; RYLA_TIMEZONE says when a day begins. "
        "Jobs that do not fit fail. Default: no limit.",
    )
    retention_s: float = Field(
        default_factory=_by_kind(3 * _DAY, 30 * _DAY, 3 * _DAY),
        ge=_MINUTE,
        le=90 * _DAY,
        description="How long a job's record and result are kept after its end. Artifacts are not touched. "
        "Default 3 days / 30 days / 3 days.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, data: Any) -> Any:
        return _expanded(data) if isinstance(data, NamedValue) else data

    @field_validator("targets")
    @classmethod
    def _targets_differ(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        if not targets:
            raise ValueError("must have at least one target")
        ids = [target.id for target in targets]
        repeated = sorted({target_id for target_id in ids if ids.count(target_id) > 1})
        if repeated:
            raise ValueError(f"names {', '.join(repeated)} more than once")
        return targets

    @field_validator("ttl_s", "retry_backoff_max_s", "poll_max_s")
    @classmethod
    def _not_less(cls, value: float, info: ValidationInfo) -> float:
        lower = {
            "ttl_s": "execution_timeout_s",
            "retry_backoff_max_s": "retry_backoff_s",
            "poll_max_s": "poll_min_s",
        }[str(info.field_name)]
        if lower in info.data and value < info.data[lower]:
            raise ValueError(f"must not be less than {lower} ({info.data[lower]:g}); it is {value:g}")
        return value

    @field_validator("on_stuck")
    @classmethod
    def _somewhere_to_go(cls, value: str, info: ValidationInfo) -> str:
        if value == "failover" and len(info.data.get("targets", ())) == 1:
            raise ValueError("is failover, so there must be a second target to go to")
        return value

    @field_validator("max_cost_usd", "daily_budget_usd")
    @classmethod
    def _has_prices(cls, value: float | None, info: ValidationInfo) -> float | None:
        unpriced = [target.id for target in info.data.get("targets", ()) if target.price_per_s is None]
        if value is not None and unpriced:
            raise ValueError(f"cannot be kept without a price: set gpu or price_per_s of {', '.join(unpriced)}")
        return value

    @property
    def primary(self) -> Target:
        """The target that a new job goes to first."""
        return self.targets[0]


def _expanded(given: NamedValue) -> Any:
    value = opened(given.value)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not valid JSON: {error}") from None
    if isinstance(value, Endpoint):
        raise ValueError(f"is an Endpoint with another name, {value.name!r}")
    if isinstance(value, str | Target):
        return {"name": given.name, "targets": (_target(value),)}
    if isinstance(value, list | tuple):
        return {"name": given.name, "targets": tuple(_target(item) for item in value)}
    if isinstance(value, dict):
        return {"name": given.name, **_with_targets(value)}
    raise ValueError("must be an endpoint id, a JSON object, or a JSON list of targets")


def _target(value: Any) -> Any:
    return {"endpoint_id": value.strip()} if isinstance(value, str) else value


def _with_targets(given: dict[str, Any]) -> dict[str, Any]:
    """An object may hold `targets`, or the fields of its only target beside its own."""
    own = {key: value for key, value in given.items() if key not in Target.model_fields}
    of_target = {key: value for key, value in given.items() if key in Target.model_fields}
    if "targets" not in own:
        return {**own, "targets": (of_target,)}
    if of_target:
        raise ValueError(f"has targets, so {', '.join(sorted(of_target))} must stand inside them")
    targets = own["targets"]
    return {**own, "targets": tuple(map(_target, targets)) if isinstance(targets, list | tuple) else targets}
