"""Our app with a task whose worker is killed at a given moment of its delivery, once.

`DIE_AT` says when: `counted` (Celery has stored the result and counted it for the chord, and the job's record does not
say so yet), `publishing` (all parts are counted, and the chord's body is about to be sent) or `published` (it is sent).
`DIED` names a file that is made at that moment, and without which nobody dies again.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from celery.signals import after_task_publish, before_task_publish

from ryla_tasks import app
from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["app", "body", "part"]

BODY = "dying.body"


def die_if(moment: str) -> None:
    if os.environ.get("DIE_AT") != moment:
        return
    died = Path(os.environ["DIED"])
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingTask(ServerlessTask):
    """Dies before it says that its end was stored."""

    abstract = True

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        die_if("counted")
        super().on_success(retval, task_id, args, kwargs)


@before_task_publish.connect(weak=False)
def _publishing(sender: str = "", **_more: Any) -> None:
    if sender == BODY:
        die_if("publishing")


@after_task_publish.connect(weak=False)
def _published(sender: str = "", **_more: Any) -> None:
    if sender == BODY:
        die_if("published")


@app.task(base=DyingTask, name="dying.part", endpoint="echo")
def part(seconds: float) -> dict[str, Any]:
    """A job of that length."""
    return {"simulate": {"seconds": seconds}}


@app.task(name=BODY, acks_late=True)
def body(results: list[Any]) -> int:
    """A chord's body, which notes each of its runs."""
    app.backend.client.rpush("ryla:bodies", len(results))
    return len(results)
