"""Repeating a call that may be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_random_exponential

from ryla_tasks.errors import ConfigurationError, ProviderError, TransientError

__all__ = ["CallRetry", "repeat"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallRetry:
    """How often, and for how long, a call that may be repeated is repeated. Times are seconds.

    The wait before repeat n is random between 0 and `first_wait * 2**(n-1)`, at most `max_wait` ("full jitter",
    so that many callers do not come back together), on top of what the server asked for by Retry-After. No
    attempt starts, and none goes on, past `total` seconds; a Retry-After that leads past it ends the repeating
    at once.
    """

    attempts: int = 4
    first_wait: float = 0.5
    max_wait: float = 8
    total: float = 45

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError("call_retry.attempts must be at least 1", setting="call_retry.attempts")
        for name in ("first_wait", "max_wait", "total"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"call_retry.{name} must not be negative", setting=f"call_retry.{name}")


class _Wait(wait_base):
    def __init__(self, policy: CallRetry) -> None:
        self._jitter = wait_random_exponential(multiplier=policy.first_wait, max=policy.max_wait)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        asked = error.retry_after if isinstance(error, ProviderError) else None
        return (asked or 0.0) + self._jitter(retry_state)


class _Past(stop_base):
    """Stops where the next attempt would start past the deadline, on the clock that the calls are given."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __call__(self, retry_state: RetryCallState) -> bool:
        return time.monotonic() + retry_state.upcoming_sleep >= self._deadline


def repeat(
    policy: CallRetry, call: Callable[[float], T], *, on: tuple[type[ProviderError], ...] = (TransientError,)
) -> T:
    """Call until it succeeds, raises something that is not one of `on`, or the policy is used up.

    `call` gets the deadline on the monotonic clock. Raises what the last attempt raised.
    """
    deadline = time.monotonic() + policy.total
    retrying = Retrying(
        stop=stop_after_attempt(policy.attempts) | _Past(deadline),
        wait=_Wait(policy),
        retry=retry_if_exception_type(on),
        reraise=True,
    )
    return retrying(call, deadline)
