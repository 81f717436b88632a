"""A job's Celery message: caught once, at the enqueue, and sent again whenever the job needs one.

The message holds what Celery needs to end the task (chain, group, chord, links) and not the job's input, which the
record keeps. Its `ryla` header says which step it asks for. What follows the job in a canvas is frozen here: task ids,
so that a doubled delivery cannot start a follower of ours twice, and queues, because our worker does not know the
routes of the project that enqueued.
"""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from celery import Celery, current_app
from kombu import Producer
from kombu.utils.json import dumps
from kombu.utils.uuid import uuid

from ryla_tasks.jobs.lifecycle import Step

__all__ = ["HEADER", "CatchingProducer", "Envelope", "send"]

#: The name of our header in a message: `{"step": "submit" | "deliver", "recorded": 1, "endpoint": ...}`.
HEADER = "ryla"

_KEPT = ("exchange", "routing_key", "serializer", "compression", "priority", "correlation_id", "reply_to")


class Envelope:
    """A message as JSON, ready to be sent for any step; the store puts the number of the job's retries before it."""

    def __init__(self, text: str) -> None:
        retries, _, after = text.partition(" ")
        self.retries, self.text = (int(retries), after) if retries.isdecimal() else (0, text)

    @classmethod
    def caught(cls, app: Celery, body: Any, publish: dict[str, Any]) -> Envelope:
        """The envelope of a message that Celery is about to publish."""
        args, kwargs, embed = body
        _freeze(app, embed)
        kept = {name: publish[name] for name in _KEPT if publish.get(name) is not None}
        return cls(dumps({"body": [args, kwargs, embed], "headers": publish["headers"], "publish": kept}))

    def message(self, step: Step, *, countdown: float = 0.0) -> tuple[Any, dict[str, Any]]:
        """The body and the publish arguments of the message for a step."""
        held = json.loads(self.text)
        headers = held["headers"]
        headers[HEADER] = {**headers.get(HEADER, {}), "step": str(step)}
        headers["retries"] = self.retries
        headers["expires"] = None
        headers["eta"] = _eta(countdown)
        publish = {**held["publish"], "headers": headers}
        if step is Step.DELIVER:
            publish["priority"] = 0  # a finished job's user waits for this one
        return tuple(held["body"]), publish


class CatchingProducer:
    """A producer that hands the message that Celery publishes to `catch`, together with a way to send it.

    Given to `apply_async(producer=...)`, it lets Celery build the message as it always does, with routes, links,
    stamps and signals, and lets us write the job's record before anything is sent.
    """

    def __init__(self, inner: Producer, catch: Callable[[Any, dict[str, Any], Callable[[], Any]], Any]) -> None:
        self._inner = inner
        self._catch = catch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def publish(self, body: Any, **kwargs: Any) -> Any:
        return self._catch(body, kwargs, lambda: self._inner.publish(body, **kwargs))


def send(app: Celery, envelope: Envelope, step: Step, *, countdown: float = 0.0) -> None:
    """Send a job's message for a step. Raises what kombu raises where the broker cannot be reached."""
    body, publish = envelope.message(step, countdown=countdown)
    with app.producer_or_acquire() as producer:
        producer.publish(
            body,
            retry=True,
            retry_policy=app.conf.task_publish_retry_policy,
            declare=_declared(app, publish),
            **publish,
        )


def _declared(app: Celery, publish: dict[str, Any]) -> list[Any]:
    """The queue that the message goes to, so that it exists; none where it goes through an exchange of the host's."""
    return [] if publish.get("exchange") else [app.amqp.queues[publish["routing_key"]]]


def _eta(countdown: float) -> str | None:
    if countdown <= 0:
        return None
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=countdown)).isoformat()


def _freeze(app: Celery, embed: dict[str, Any]) -> None:
    """Give every follower of the job its queue and its task id, in copies of the signatures."""
    for name in ("callbacks", "errbacks", "chain"):
        if embed.get(name):
            embed[name] = [_frozen(app, signature) for signature in embed[name]]
    if embed.get("chord"):
        embed["chord"] = _frozen(app, embed["chord"])


def _frozen(app: Celery, signature: Any) -> Any:
    frozen = copy.deepcopy(dict(signature))
    for given, leaf in zip(_leaves(signature), _leaves(frozen), strict=True):
        options = leaf.setdefault("options", {})
        options.setdefault("task_id", uuid())
        if not any(options.get(name) for name in ("queue", "exchange", "routing_key")):
            router: Any = _app_of(app, given).amqp.router
            queue = router.route({}, leaf["task"], task_type=app.tasks.get(leaf["task"])).get("queue")
            if queue is not None:
                options["queue"] = queue.name
    return frozen


def _app_of(app: Celery, signature: Any) -> Celery:
    """The app whose routes count for a follower: the one it was made by, else one that knows the task.

    A project may have an app of its own beside ours, and mix its tasks with ours in one canvas.
    """
    own = getattr(signature, "_app", None) or getattr(getattr(signature, "_type", None), "app", None)
    if own is not None:
        return cast("Celery", own)
    return app if signature["task"] in app.tasks and signature["task"] not in current_app.tasks else current_app


def _leaves(signature: Any) -> Iterator[Any]:
    """Every task signature in a canvas: a chain's, a group's, a chord's header and body, and their links."""
    kwargs = signature.get("kwargs") or {}
    kind = signature.get("subtask_type")
    inner: list[Any] = []
    if kind in ("chain", "group"):
        inner = list(kwargs.get("tasks") or ())
    elif kind == "chord":
        header = kwargs.get("header") or ()
        inner = [header] if isinstance(header, dict) else list(header)
        inner.append(kwargs.get("body"))
    else:
        yield signature
    options = signature.get("options") or {}
    for link in ("link", "link_error"):
        inner.extend(options.get(link) or ())
    for child in inner:
        if isinstance(child, dict):
            yield from _leaves(child)
