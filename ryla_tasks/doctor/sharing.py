"""Other Celery apps on the broker's database: there the shortest visibility time-out wins for all.

What can be seen: kombu leaves a key `_kombu.binding.EXCHANGE` for each exchange, with the queues that
were bound to it, and workers
that are alive answer with their configuration. The time-out of an app without a live worker cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ryla_tasks.doctor.finding import Finding, ok, problem, warning
from ryla_tasks.tasks.routes import queue_names

if TYPE_CHECKING:
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["other_apps"]

_BINDING = "_kombu.binding."
#: Exchanges of Celery itself: remote control and events.
_CELERYS = ("celeryev", "celery.pidbox", "reply.celery.pidbox")
#: Between routing key, pattern and queue.
_SEPARATOR = "\x06\x16"
_ANSWER_S = 2.0


def other_apps(runtime: Runtime) -> Iterator[Finding]:
    wanted = runtime.settings.visibility_timeout_s
    for name, seconds in sorted(_visibility(runtime).items()):
        if seconds != wanted:
            yield problem(
                f"the worker {name} has a visibility time-out of {seconds} s, not {wanted} s: the shorter wins",
                "Give it the same (broker_transport_options), or give ryla_tasks a Redis database of its own.",
            )
    foreign = _foreign(runtime)
    if foreign:
        yield warning(
            f"other Celery apps use this database; queues of theirs: {', '.join(foreign[:10])}",
            f"Give ryla_tasks a Redis database of its own, or give each of them the visibility_timeout {wanted}: one "
            f"without a live worker cannot be asked for it from here.",
        )
    else:
        yield ok("no other Celery app is seen on this database")


def _visibility(runtime: Runtime) -> dict[str, int]:
    """The visibility time-outs of the workers that are alive, by name. Celery's default is an hour."""
    answers: dict[str, Any] = runtime.app.control.inspect(timeout=_ANSWER_S).conf(with_defaults=True) or {}
    return {
        name: int((conf.get("broker_transport_options") or {}).get("visibility_timeout", 3_600))
        for name, conf in answers.items()
        if isinstance(conf, dict) and "error" not in conf
    }


def _foreign(runtime: Runtime) -> list[str]:
    """The queues of others."""
    ours = {*queue_names(runtime.settings.key_prefix), *(queue.name for queue in runtime.app.amqp.queues.values())}
    theirs: set[str] = set()
    with runtime.app.connection_for_read() as connection:
        client: Any = getattr(connection.default_channel, "client")  # noqa: B009 - kombu's stubs do not know it
        for key in client.scan_iter(f"{_BINDING}*", count=1000):
            if _text(key).removeprefix(_BINDING) not in _CELERYS:
                theirs |= {_text(member).rpartition(_SEPARATOR)[2] for member in client.smembers(key)}
    return sorted(theirs - ours)


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
