"""The workers: whether any is alive, and whether each of our queues has one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ryla_tasks.doctor.finding import Finding, ok, problem, warning
from ryla_tasks.tasks.routes import queue_names

if TYPE_CHECKING:
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["workers"]

_ANSWER_S = 2.0


def workers(runtime: Runtime) -> Iterator[Finding]:
    answers: dict[str, Any] = runtime.app.control.inspect(timeout=_ANSWER_S).active_queues() or {}
    served = {queue["name"] for queues in answers.values() for queue in queues}
    advice = "Start one: ryla worker."
    for queue, waiting in _waiting(runtime).items():
        if queue in served:
            continue
        says = f"no live worker serves {queue}, where {waiting} messages wait"
        yield problem(says, advice if not answers else f"Start one that does: ryla worker -Q {queue}.")
    if answers and set(queue_names(runtime.settings.key_prefix)) <= served:
        yield ok(f"alive: {', '.join(sorted(answers))}")
    late = _overdue(runtime)
    if late > 0:
        yield warning(
            f"{late} messages are overdue by more than a minute",
            "Workers sweep each few seconds: see whether one is alive, and not started with --without-sweeper.",
        )


def _waiting(runtime: Runtime) -> dict[str, int]:
    """How many messages wait in each of our queues."""
    with runtime.app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        return {queue: _length(channel, queue) for queue in queue_names(runtime.settings.key_prefix)}


def _length(channel: Any, queue: str) -> int:
    """kombu's count over all priorities. A queue that nobody has declared yet has none."""
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except channel.connection.channel_errors:
        return 0


def _overdue(runtime: Runtime) -> int:
    """Messages that should have been sent again a minute ago: somebody looks for these each few seconds."""
    client: Any = runtime.client
    seconds, _ = client.time()
    return int(client.zcount(f"{runtime.settings.key_prefix}:outbox", "-inf", (seconds - 60) * 1_000_000))
