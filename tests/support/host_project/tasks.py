"""The host's own tasks: what they were given is kept in Redis, for tests to look at."""

from __future__ import annotations

import json
import os
from typing import Any

import redis
from celery import shared_task


@shared_task(name="host.note")
def note(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Remember a call under `host:KEY`, and say which process it ran in."""
    key = kwargs.pop("key")
    call = {"args": args, "pid": os.getpid()}
    with redis.Redis.from_url(os.environ["RYLA_REDIS_URL"]) as client:
        client.rpush(f"host:{key}", json.dumps(call))
    return {"noted": key, "pid": os.getpid()}


@shared_task(name="host.routed")
def routed(previous: Any, *, key: str) -> dict[str, Any]:
    """The same, on a queue that the host's routes name."""
    return note(previous, key=key)


@shared_task(name="host.describe")
def describe(words: str) -> dict[str, Any]:
    """A first step before an image."""
    return {"words": words}
