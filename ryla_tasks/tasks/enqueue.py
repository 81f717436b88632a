"""Accepting jobs: the record first, then the message."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import (
    ConfigurationError,
    EnqueueUnknown,
    IdempotencyConflict,
    StoreError,
    StoreUnavailable,
)
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.jobs.record import JobRecord, JobSpec
from ryla_tasks.logs import Log
from ryla_tasks.store.answers import Created, Creation, NewJob
from ryla_tasks.tasks.envelope import HEADER, CatchingProducer, Envelope, send
from ryla_tasks.tasks.plan import JobOptions, JobPlan, split_options, wish_digest
from ryla_tasks.tasks.routes import POLL_TASK
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.tasks.times import take_times

if TYPE_CHECKING:
    from ryla_tasks.tasks.base import ServerlessTask

__all__ = ["accept", "accept_spec", "adopt", "made_before"]

log = Log(__name__)

#: A countdown longer than this is kept in the store, not in a worker's memory.
LONGEST_COUNTDOWN_S = 30.0

#: How long a worker that has a message without a record waits for Redis before it gives the message back.
ADOPT_PATIENCE_S = 30.0


def accept(
    task: ServerlessTask,
    plan: JobPlan,
    job_options: JobOptions,
    job_id: str,
    options: dict[str, Any],
    given: tuple[Any, Any],
    *,
    cell: tuple[str, str] = ("", ""),
) -> AsyncResult[Any]:
    """Write the job's record and send its message; what stands for the wish comes back.

    `cell` are the sheet that the job is a cell of, and its name there.
    """
    _check_installed(task)
    spec, inputs = task.new_spec(plan, job_options)
    spec = replace(spec, sheet=cell[0], cell=cell[1]) if cell[0] else spec
    return accept_spec(task, spec, inputs, job_id, options, given)


def accept_spec(
    task: ServerlessTask,
    spec: JobSpec,
    inputs: tuple[str, ...],
    job_id: str,
    options: dict[str, Any],
    given: tuple[Any, Any],
) -> AsyncResult[Any]:
    """The same for a job whose spec and inputs are there; `given` is what tells its wish from another one under the
    same idempotency key."""
    # Celery would subscribe to the result before it builds the message: a round trip that `get()` makes in any case,
    # and, while Redis is away, 20 seconds of waiting before the record could say so. So it is not told.
    ignored = options.pop("ignore_result", None)
    spec = replace(spec, ignore_result=bool(task.ignore_result if ignored is None else ignored))
    delay_s, start_by_s = take_times(task, options)
    wish = _Wish(task, spec, inputs, job_id, delay_s, start_by_s, _digest(task, spec, given))
    result = _publish(task, wish, options, given)
    return result if wish.job_id == result.id else task.AsyncResult(wish.job_id)


def made_before(task: ServerlessTask, spec: JobSpec, given: tuple[Any, Any]) -> str | None:
    """The id of the job that stands for this wish already, by its idempotency key.

    Raises `IdempotencyConflict` where the key stands for another wish, and `StoreUnavailable`.
    """
    if not spec.idempotency_key:
        return None
    held = runtime_of(task.app).store.made_under(spec.user_id, spec.idempotency_key)
    if held is None:
        return None
    digest, job_id = held
    if digest != _digest(task, spec, given):
        raise _conflict(spec)
    return job_id


def _conflict(spec: JobSpec) -> IdempotencyConflict:
    return IdempotencyConflict(
        f"idempotency_key: {spec.idempotency_key!r} stands for a job with another input; use a new key",
        field="idempotency_key",
    )


def _check_installed(task: ServerlessTask) -> None:
    if POLL_TASK not in task.app.tasks:
        raise ConfigurationError(
            f"{task.name} belongs to the Celery app {task.app.main!r}, which has no tasks of ryla_tasks: call "
            f"ryla_tasks.install(app) where that app is made"
        )


@retry(
    retry=retry_if_exception_type(StoreError),
    wait=wait_exponential(0.2, max=5),
    stop=stop_after_delay(ADOPT_PATIENCE_S),
    reraise=True,
)
def adopt(task: ServerlessTask, args: Any, kwargs: dict[str, Any]) -> Step:
    """Write the record of a job whose message came from an app without this package, at its first claim. Returns the
    step that comes next.

    Raises `InvalidJob` for bad input: then it is the task's failure. A message whose job has already run is ignored.
    Raises `StoreError` where Redis stays away: the job is not accepted yet, and its message must not be lost.
    """
    request: Any = task.request
    job_options, rest = split_options(kwargs)
    spec, inputs = task.new_spec(task.plan(*args, **rest), job_options)
    spec = replace(spec, ignore_result=bool(request.ignore_result or task.ignore_result))
    digest = _digest(task, spec, (args, kwargs))
    wish = _Wish(task, spec, inputs, request.id, 0.0, None, digest, recorded=False)
    options = {**request.as_execution_options(), **(request.delivery_info or {})}
    options = {name: options[name] for name in options.keys() & _CARRIED}
    _publish(task, wish, options, (None, None))
    if wish.word is Creation.TOMBSTONE:
        log.warning("job.ran_before", request.id)
        raise Ignore
    return first_step(spec)


def first_step(spec: JobSpec) -> Step:
    """What a job's first message asks for."""
    return Step.SPREAD if spec.cells else Step.SUBMIT


def _digest(task: ServerlessTask, spec: JobSpec, given: tuple[Any, Any]) -> str:
    args, kwargs = given
    return wish_digest(task.name, args or (), split_options(kwargs or {})[1]) if spec.idempotency_key else ""


_CARRIED = frozenset(
    {
        "root_id",
        "parent_id",
        "group_id",
        "group_index",
        "chord",
        "chain",
        "link",
        "link_error",
        "routing_key",
        "exchange",
    }
)


class _Wish:
    """One call of `accept`, between the moment when Celery has built the message and the moment when it is sent."""

    def __init__(
        self,
        task: ServerlessTask,
        spec: JobSpec,
        inputs: tuple[str, ...],
        job_id: str,
        delay_s: float,
        start_by_s: float | None,
        digest: str = "",
        *,
        recorded: bool = True,
    ) -> None:
        self.task = task
        self.spec = spec
        self.input_json, *self.other_inputs = inputs
        self.job_id = job_id
        self.delay_s = delay_s
        self.start_by_s = start_by_s
        self.digest = digest
        self.recorded = recorded
        self.word: Creation | None = None

    def catch(self, body: Any, publish: dict[str, Any], send_now: Any) -> None:
        """Celery is about to publish the message: create the job, then send what is to be sent."""
        # The record keeps the times: Celery would take a job that runs for an expired one, at a doubled message.
        publish["headers"] |= {
            "ignore_result": self.spec.ignore_result, "expires": None, "timelimit": [None, None],
        }  # fmt: skip
        new = self._new_job(body, publish)
        created = self._create(new)
        self.word, self.job_id = created.word, created.job_id
        crashpoint("after_create_before_send")
        if created.word is Creation.CONFLICT:
            raise _conflict(self.spec)
        if self._is_to_send(new, created):
            self._send(body, publish, send_now)
        for delivery in created.deliveries:
            _send_or_leave(self.task, delivery.job_id, Envelope(delivery.envelope), Step.DELIVER)

    def _new_job(self, body: Any, publish: dict[str, Any]) -> NewJob:
        envelope = Envelope.caught(self.task.app, body, publish)
        return NewJob(
            self.job_id,
            self.spec,
            self.input_json,
            envelope.text,
            delay_s=self.delay_s,
            start_by_s=self.start_by_s,
            digest=self.digest,
            in_canvas=not self.recorded or _is_followed(body[2]) or bool(publish["headers"].get("group")),
            recorded=self.recorded,
            message=self._message(body, publish),
            other_inputs=tuple(self.other_inputs),
        )

    def _is_to_send(self, new: NewJob, created: Created) -> bool:
        """Whether the job's message goes out now: it did not go with the record, and is not kept for a distant time.

        Who creates a job again does not know whether the first time its message was sent; a second one is harmless.
        """
        if not self.recorded or self.delay_s > LONGEST_COUNTDOWN_S:
            return False
        return created.word is Creation.EXISTS or (created.word is Creation.CREATED and new.message is None)

    def _message(self, body: Any, publish: dict[str, Any]) -> tuple[str, str] | None:
        """The message, if it can go to Redis with the record."""
        if self.delay_s or not self.recorded:
            return None
        try:
            return runtime_of(self.task.app).notebook.note(body, publish)
        except (OperationalError, OSError, RedisError):
            return None  # the store says in its own words that Redis is away

    def _create(self, new: NewJob) -> Created:
        try:
            return runtime_of(self.task.app).store.create(new)
        except StoreUnavailable as error:
            if not error.sent:
                raise
            raise EnqueueUnknown(
                f"Redis did not answer, so whether the job was accepted is not known. Enqueue it again with "
                f"task_id={new.job_id!r}: it will not run twice.",
                job_id=new.job_id,
            ) from error

    def _send(self, body: Any, publish: dict[str, Any], send_now: Any) -> None:
        if self.delay_s:
            envelope = Envelope.caught(self.task.app, body, publish)
            _send_or_leave(self.task, JobRecord(self.job_id, self.spec), envelope, first_step(self.spec), self.delay_s)
            return
        try:
            send_now()
        except (OperationalError, OSError) as error:
            _left_to_the_sweeper(JobRecord(self.job_id, self.spec), first_step(self.spec), error)


def _is_followed(embed: dict[str, Any]) -> bool:
    """Whether something waits for the end of this very task, so that another task cannot stand for it."""
    return any(embed.get(name) for name in ("chain", "chord", "callbacks", "errbacks"))


def _publish(task: ServerlessTask, wish: _Wish, options: dict[str, Any], shown: tuple[Any, Any]) -> AsyncResult[Any]:
    """Have Celery build the message, and catch it. It carries no arguments: the record has the input."""
    from celery import Task

    app = task.app
    reprs = _shown(task, wish.spec, shown)
    about = {"recorded": 1, "endpoint": wish.spec.endpoint, "step": str(first_step(wish.spec))}
    headers = {**(options.pop("headers", None) or {}), HEADER: about}
    producer = options.pop("producer", None)
    options.setdefault("priority", wish.spec.priority.level)
    # All that a message of ours holds is JSON, and workers need not take anything else.
    options["serializer"] = "json"
    with app.producer_or_acquire(producer) as inner:
        producer = CatchingProducer(inner, wish.catch)
        message = {**options, **reprs, "headers": headers, "producer": producer, "ignore_result": True}
        result: AsyncResult[Any] = Task.apply_async(task, (), {}, task_id=wish.job_id, **message)
    result.ignored = wish.spec.ignore_result
    return result


def _shown(task: ServerlessTask, spec: JobSpec, shown: tuple[Any, Any]) -> dict[str, str]:
    """What monitors see of the arguments: prompts and presigned URLs are nobody's business unless asked for."""
    if runtime_of(task.app).settings.show_arguments:
        args, kwargs = shown
        return {"argsrepr": repr(tuple(args or ())), "kwargsrepr": repr(kwargs or {})}
    about = {"endpoint": spec.endpoint, "label": spec.label}
    return {"argsrepr": "()", "kwargsrepr": repr({name: value for name, value in about.items() if value})}


def _send_or_leave(
    task: ServerlessTask, job: JobRecord | str, envelope: Envelope, step: Step, countdown: float = 0.0
) -> None:
    try:
        send(task.app, envelope, step, countdown=countdown)
    except (OperationalError, OSError) as error:
        _left_to_the_sweeper(job, step, error)


def _left_to_the_sweeper(job: JobRecord | str, step: Step, error: Exception) -> None:
    log.warning("message.not_sent", job, what=step, error=type(error).__name__)
