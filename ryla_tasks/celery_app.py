"""The Celery app of ryla_tasks, and how its tasks get into an app of one's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from celery import Celery
from celery.local import Proxy
from celery.signals import task_revoked

from ryla_tasks.alerts.step import AlertStep
from ryla_tasks.errors import ConfigurationError, JobNotFound, TransientError
from ryla_tasks.logs.setup import wire
from ryla_tasks.tasks import endpoint as endpoint_task
from ryla_tasks.tasks import image as image_task
from ryla_tasks.tasks import lora as lora_task
from ryla_tasks.tasks import sheet as sheet_task
from ryla_tasks.tasks import swap as swap_task
from ryla_tasks.tasks import variations as variations_task
from ryla_tasks.tasks.base import ServerlessTask
from ryla_tasks.tasks.cells import sheet_cell
from ryla_tasks.tasks.maintenance import adopt_remote, cancel_job, cancel_orphan
from ryla_tasks.tasks.poll import ride
from ryla_tasks.tasks.revokes import message_dropped
from ryla_tasks.tasks.routes import ADOPT_TASK, CANCEL_TASK, CELL_TASK, LINE_TASK, POLL_TASK, TELL_TASK, add_routes
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.tasks.submit import submit_line
from ryla_tasks.tasks.sweeper import WITHOUT_SWEEPER, SweeperStep
from ryla_tasks.tasks.telling import tell_line

__all__ = [
    "app",
    "current_app",
    "generate_image",
    "generate_variations",
    "install",
    "make_character_sheet",
    "run_endpoint",
    "swap_face",
    "train_lora",
]


def install(host: Celery) -> Celery:
    """Put the tasks and the sweeper of ryla_tasks into an app, and make it the one that they are sent through.

    The host keeps its own configuration. Its result backend must be Redis; jobs go to the queues `ryla.jobs`,
    `ryla.polls` and `ryla.maintenance`, so some worker has to consume these. Safe to call twice.
    """
    global _installed
    if host.conf.result_backend and not str(host.conf.result_backend).startswith(_REDIS):
        raise ConfigurationError(
            f"result_backend: is {str(host.conf.result_backend).split(':', 1)[0]!r}, and ryla_tasks needs Redis there; "
            f"set it to redis://...",
            setting="result_backend",
        )
    with _lock:
        if host not in _hosts:
            _hosts.add(host)
            _register(host)
            add_routes(host)
        _installed = host
    return host


def current_app() -> Celery:
    """The app that jobs are sent through: the host's, if one called `install`, else our own."""
    return _installed or app


_REDIS = ("redis://", "rediss://", "sentinel://", "socket://", "redis+socket://", "unix://")
_lock = threading.Lock()
_installed: Celery | None = None
_hosts: WeakSet[Celery] = WeakSet()


def _register(host: Celery) -> None:
    """Define our tasks in an app. The names are public: `send_task` uses them from apps without this package."""
    # Not shared: else Celery would define them in every app of the process, also where nobody installed them.
    define: Any = partial(host.task, shared=False)
    for name, function, endpoint in _JOBS:
        define(base=ServerlessTask, name=name, endpoint=endpoint)(function)
    # A sheet is one row in Flower, and one result: its cells are neither.
    quiet: dict[str, Any] = {"send_events": False, "ignore_result": True, "store_errors_even_if_ignored": False}
    define(base=ServerlessTask, name=CELL_TASK, endpoint="special", **quiet)(sheet_cell)
    # What our messages do is nobody's row in Flower: no events, and no results.
    common: dict[str, Any] = {
        "ignore_result": True, "send_events": False, "acks_late": True, "reject_on_worker_lost": True,
    }  # fmt: skip
    define(name=POLL_TASK, **common)(_poll(host))
    define(name=LINE_TASK, **common)(_submit_line(host))
    define(name=TELL_TASK, **common)(_tell_line(host))
    define(
        name=CANCEL_TASK,
        autoretry_for=(TransientError,),
        retry_backoff=True,
        max_retries=5,
        **common,
    )(_cancel_remote(host))
    define(
        name=ADOPT_TASK,
        autoretry_for=(TransientError,),
        retry_backoff=True,
        max_retries=10,
        **common,
    )(_adopt_remote(host))
    host.steps["worker"].add(SweeperStep)
    host.steps["worker"].add(AlertStep)
    host.user_options["worker"].add(WITHOUT_SWEEPER)


def _poll(host: Celery) -> Callable[[str], None]:
    def poll(target: str) -> None:
        ride(host, target)

    return poll


def _submit_line(host: Celery) -> Callable[[str], None]:
    def line(endpoint: str) -> None:
        submit_line(host, endpoint)

    return line


def _tell_line(host: Celery) -> Callable[[str], None]:
    def tell(target: str) -> None:
        tell_line(host, target)

    return tell


def _adopt_remote(host: Celery) -> Callable[..., None]:
    def adopt(job_id: str, attempt: int, remote_id: str) -> None:
        try:
            adopt_remote(host, job_id, attempt, remote_id)
        except JobNotFound:
            return

    return adopt


def _cancel_remote(host: Celery) -> Callable[..., None]:
    def cancel_remote(job_id: str = "", orphan: str = "") -> None:
        with runtime_of(host).lane.room("cancel") as admitted:
            if not admitted:
                return  # the sweeper sends it again
            if orphan:
                cancel_orphan(host, orphan)
                return
            try:
                cancel_job(host, job_id)
            except JobNotFound:
                return  # its record has expired meanwhile

    return cancel_remote


_JOBS: tuple[tuple[str, Callable[..., Any], str], ...] = (
    ("ryla.generate_image", image_task.generate_image, "image"),
    ("ryla.generate_variations", variations_task.generate_variations, "image"),
    (sheet_task.TASK, sheet_task.make_character_sheet, "special"),
    ("ryla.swap_face", swap_task.swap_face, "special"),
    ("ryla.train_lora", lora_task.train_lora, "lora"),
    ("ryla.run_endpoint", endpoint_task.run_endpoint, ""),
)


@task_revoked.connect(weak=False)
def _on_revoked(sender: Any, request: Any, expired: bool = False, **_more: Any) -> None:
    if isinstance(sender, ServerlessTask):
        message_dropped(sender.app, request, expired=expired)


def _own_app() -> Celery:
    own = Celery("ryla_tasks", set_as_current=False)
    own.config_from_object("ryla_tasks.celery_defaults")
    _register(own)
    wire(own)
    return own


def _task(name: str) -> ServerlessTask:
    return cast("ServerlessTask", Proxy(lambda: current_app().tasks[name]))


app = _own_app()

generate_image = _task("ryla.generate_image")
generate_variations = _task("ryla.generate_variations")
make_character_sheet = _task(sheet_task.TASK)
swap_face = _task("ryla.swap_face")
train_lora = _task("ryla.train_lora")
run_endpoint = _task("ryla.run_endpoint")
