"""Sends the engine's messages by hand, and sees what is under way at the broker."""

from __future__ import annotations

import json
from typing import Any

import redis

import ryla_tasks
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.store.answers import Delivery
from ryla_tasks.tasks.envelope import Envelope, send
from ryla_tasks.tasks.routes import POLL_TASK
from ryla_tasks.tasks.runtime import runtime_of

#: Celery's priorities on Redis are lists of their own, named after the queue.
_LISTS = ("", "\x06\x163", "\x06\x166", "\x06\x169")


def envelope_of(job_id: str) -> Delivery:
    """The message of a job, while the store has it."""
    delivery = runtime_of(ryla_tasks.app).store.delivery(job_id)
    assert delivery.envelope
    return delivery


def send_again(delivery: Delivery, step: Step, times: int = 1) -> None:
    for _ in range(times):
        send(ryla_tasks.app, Envelope(delivery.envelope), step)


def poll_again(target: str, times: int = 1) -> None:
    for _ in range(times):
        ryla_tasks.app.tasks[POLL_TASK].apply_async(kwargs={"target": target})


def queued(client: redis.Redis, queue: str) -> list[dict[str, Any]]:
    """The messages that wait in a queue."""
    found: list[dict[str, Any]] = []
    for suffix in _LISTS:
        found += [json.loads(one) for one in client.lrange(queue + suffix, 0, -1)]
    return found


def held(client: redis.Redis, queue: str) -> list[dict[str, Any]]:
    """The messages of a queue that a worker has and has not acknowledged."""
    rows = [json.loads(one) for one in client.hvals("unacked")]
    return [message for message, _exchange, routing_key in rows if routing_key == queue]


def is_idle(client: redis.Redis, queue: str = "ryla.jobs") -> bool:
    """Whether every message of a queue has been carried out."""
    return not queued(client, queue) and not held(client, queue)
