"""A target: one endpoint at one GPU cloud, under one account, with its price and its limits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ryla_tasks.config.prices import price_per_second
from ryla_tasks.errors import ConfigurationError

__all__ = ["DEFAULT_ACCOUNT", "Limits", "Name", "Target", "TargetRef", "checked_name", "parse_target_id"]

DEFAULT_ACCOUNT = "default"
"""The account whose key is RUNPOD_API_KEY."""

NAME_PATTERN = r"[a-z][a-z0-9_-]{0,63}"
ENDPOINT_ID_PATTERN = r"[A-Za-z0-9_-]{1,64}"


def checked_name(value: str) -> str:
    """`value` if an endpoint or an account may be called so. Raises `ValueError`."""
    if re.fullmatch(NAME_PATTERN, value) is None:
        raise ValueError(
            f"must begin with a small letter, and go on with small letters, digits, _ and -; got {value!r}"
        )
    return value


Name = Annotated[str, AfterValidator(checked_name)]
"""What an endpoint or an account may be called."""

_TARGET_ID = re.compile(rf"(?P<provider>runpod):(?P<endpoint_id>{ENDPOINT_ID_PATTERN})(@(?P<account>{NAME_PATTERN}))?")


class TargetRef(NamedTuple):
    """What a target's identity string says."""

    provider: Literal["runpod"]
    endpoint_id: str
    account: str


def parse_target_id(target_id: str) -> TargetRef:
    """Read a `Target.id`, as it is stored on an attempt: `runpod:<endpoint_id>` or `runpod:<endpoint_id>@<account>`.

    Raises `ConfigurationError` when it is not one.
    """
    match = _TARGET_ID.fullmatch(target_id)
    if match is None:
        raise ConfigurationError(
            f"{target_id[:80]!r} is not a target: use runpod:<endpoint id> or runpod:<endpoint id>@<account>"
        )
    return TargetRef("runpod", match["endpoint_id"], match["account"] or DEFAULT_ACCOUNT)


def _checked_endpoint_id(value: str) -> str:
    # An API key fits the pattern of an endpoint id and would end up in URLs, logs and the job store.
    if value.startswith("rpa_"):
        raise ValueError("looks like an API key, not like an endpoint id; the key belongs in RUNPOD_API_KEY")
    if re.fullmatch(ENDPOINT_ID_PATTERN, value) is None:
        raise ValueError(
            "must be the endpoint's id as RunPod's console shows it: 1 to 64 letters, digits, - and _, not its URL"
        )
    return value


class Limits(BaseModel):
    """How much of RunPod's rate limits the whole fleet may use at one target.

    The defaults are RunPod's base limits for each user and endpoint. RunPod raises them with the number of running
    workers, by a factor that it does not publish, so there is no upper bound here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_per_10s: int = Field(default=1000, ge=1, description="Submits (POST /run) in any 10 seconds.")
    run_concurrent: int = Field(default=200, ge=1, description="Submits (POST /run) at the same time.")
    status_per_10s: int = Field(default=2000, ge=1, description="Status calls in any 10 seconds.")
    status_concurrent: int = Field(default=400, ge=1, description="Status calls at the same time.")
    cancel_per_10s: int = Field(default=100, ge=1, description="Cancels in any 10 seconds.")
    cancel_concurrent: int = Field(default=20, ge=1, description="Cancels at the same time.")


class Target(BaseModel):
    """One endpoint at one GPU cloud, under one account."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    provider: Literal["runpod"] = Field(default="runpod", description="The GPU cloud. Only `runpod` so far.")
    endpoint_id: Annotated[str, AfterValidator(_checked_endpoint_id)] = Field(
        description="The endpoint's id, as RunPod's console shows it and as it stands in its URL."
    )
    account: Name = Field(
        default=DEFAULT_ACCOUNT,
        description="Whose API key is used: `default` means RUNPOD_API_KEY, `x` means RYLA_ACCOUNT_X.",
    )
    gpu: str = Field(
        default="",
        max_length=64,
        description='The GPU of the endpoint\'s workers, for instance "RTX 4090". Sets the price when none is given.',
    )
    price_per_s: float | None = Field(
        default_factory=lambda data: price_per_second(data.get("gpu", "")),
        ge=0,
        description="US dollars for a second of a worker. Default: the list price of `gpu`; without both, jobs have no "
        "cost estimate.",
    )
    pod_price_per_h: float | None = Field(
        default=None,
        gt=0,
        description="US dollars for an hour of a pod with that GPU, as RunPod's console shows it: `ryla costs` says "
        "from how much work on such a pod would cost less. Default: that is left out.",
    )
    bill_cold_start: bool = Field(
        default=True,
        description="Whether the seconds in which a worker starts count in the cost of the job that waited for it. "
        "RunPod's documentation says that they are not billed, its bills that they are.",
    )
    limits: Limits = Field(default_factory=Limits, description="The share of RunPod's rate limits that may be used.")
    models: tuple[str, ...] | None = Field(
        default=None,
        description="The model files on its volume, as workflows name them, with * for any text: a job goes to no "
        "target that lacks a file that it needs. Default: all that any job may need.",
    )

    @property
    def id(self) -> str:
        """The target's identity, stored on each attempt, so that an attempt is asked for where it was submitted."""
        account = "" if self.account == DEFAULT_ACCOUNT else f"@{self.account}"
        return f"{self.provider}:{self.endpoint_id}{account}"

    def lacks(self, needs: Iterable[str]) -> list[str]:
        """Which of these model files it does not have."""
        has = self.models
        return [] if has is None else [name for name in needs if not any(fnmatchcase(name, one) for one in has)]
