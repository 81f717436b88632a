"""A Celery worker in threads of the process that runs the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery, _state
from celery.worker import WorkController, state

from ryla_tasks.settings import get_settings
from ryla_tasks.tasks.routes import queue_names

__all__ = ["running_worker"]

_STOP_S = 20.0
_START_S = 20.0

#: Celery's own globals: its type stubs do not have all of them.
_process: Any = _state
_stopping: Any = state


class _Worker(WorkController):
    """A worker that says when it is ready."""

    def __init__(self, **options: Any) -> None:
        self.ready = threading.Event()
        self.failure: BaseException | None = None
        super().__init__(**options)

    def on_consumer_ready(self, consumer: Any) -> None:  # noqa: ARG002
        self.ready.set()

    def run(self) -> None:
        """Serve until the process is told to stop."""
        try:
            self.start()
        except SystemExit:
            return
        except BaseException as error:
            self.failure = error
        finally:
            self.ready.set()


@contextmanager
def running_worker(app: Celery, queues: Sequence[str] = (), concurrency: int = 4) -> Iterator[None]:
    """A worker that serves an app's queues, and some more, for the length of a block.

    Celery's own `start_worker` would make the app the current one of the process for good, and take over the root
    logger: what follows would see both.
    """
    if app.conf.worker_consumer == "celery.worker.consumer:Consumer":
        app.conf.worker_consumer = "ryla_tasks.tasks.consumer:Consumer"
    app.finalize()
    with _in_this_process(app):
        worker = _Worker(
            app=app,
            hostname="tests@ryla",
            pool="threads",
            concurrency=concurrency,
            # A host's own configuration need not know of our queues.
            queues=[*app.amqp.queues, *queue_names(get_settings().key_prefix), *queues],
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
            quiet=True,
        )
        thread = threading.Thread(target=worker.run, name="ryla-test-worker", daemon=True)
        thread.start()
        if not worker.ready.wait(_START_S) or worker.failure is not None:
            raise RuntimeError("the worker of the test did not start") from worker.failure
        # A worker says for its whole process that nobody may wait for results, which is what a test does.
        _process._set_task_join_will_block(False)
        try:
            yield
        finally:
            _stopping.should_stop = 0
            thread.join(_STOP_S)
            _stopping.should_stop = None
        if thread.is_alive():
            raise RuntimeError(f"the worker of the test did not stop within {_STOP_S:g} s")


@contextmanager
def _in_this_process(app: Celery) -> Iterator[None]:
    """What a worker changes for its whole process: the app that its threads find, and whether to wait for results."""
    default, blocked = _process.default_app, _process.task_join_will_block()
    queues: Any = app.amqp.queues
    consumed = queues._consume_from
    _process.set_default_app(app)
    try:
        yield
    finally:
        queues._consume_from = consumed
        _process.set_default_app(default)
        _process._set_task_join_will_block(blocked)
