"""`ServerlessTask`: a Celery task whose work is done by a GPU worker behind a serverless endpoint.

The life of one, in messages:

1. `apply_async` runs the task's function *in the caller*. It returns a `JobPlan` (or just the endpoint's input), so
   that bad input fails there. Then the job's record is written, and the message is sent.
2. A worker gets the message (step `submit`): it claims the job, sends it to the endpoint, records the remote id, and
   raises `Ignore`: Celery's task stays open, and no slot is held.
3. Poll messages of the endpoint's target watch the remote job.
4. When it has ended, the same task's message is sent again (step `deliver`): now the task's body returns the result,
   or raises the typed error, and Celery does all the rest: result, chain, group, chord, links, Flower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, ClassVar

from celery import Task
from celery.exceptions import Reject
from celery.result import AsyncResult
from kombu.utils.uuid import uuid

from ryla_tasks.crashpoints import crashpoint
from ryla_tasks.errors import ConfigurationError, InvalidJob, JobError, StoreError, TransientError
from ryla_tasks.jobs.lifecycle import Step
from ryla_tasks.jobs.record import JobSpec
from ryla_tasks.tasks import eager, enqueue
from ryla_tasks.tasks.cells import spread
from ryla_tasks.tasks.deliver import deliver
from ryla_tasks.tasks.ends import AWAY, JobBackend
from ryla_tasks.tasks.envelope import HEADER
from ryla_tasks.tasks.fallbacks import alternatives_of
from ryla_tasks.tasks.followers import fail_follower, is_follower
from ryla_tasks.tasks.plan import JobOptions, JobPlan, build_spec, encode_input, split_options
from ryla_tasks.tasks.runtime import runtime_of
from ryla_tasks.tasks.sheet_spec import sheet_spec
from ryla_tasks.tasks.submit import submit

__all__ = ["ServerlessTask"]


class ServerlessTask(Task[Any, Any]):
    """Base of tasks that run on an endpoint.

    Write the function so that it checks its arguments and returns the endpoint's input, or a `JobPlan`:

        @app.task(base=ServerlessTask, endpoint="image")
        def upscale(url: str, factor: int = 2) -> dict:
            return {"url": url, "factor": factor}

    It runs where the task is enqueued, so it must be quick and must not need a GPU. Besides its own arguments every
    job takes those of `JobOptions`. In a canvas the previous result comes as the first positional argument.

    `autoretry_for`, `dont_autoretry_for`, `retry_backoff`, `retry_backoff_max`, `retry_jitter` and `max_retries` mean
    what they mean in Celery, but the job's record carries them out: they decide whether a refused submit, a failed
    remote job (`JobFailed`) or a bad output (`OutputInvalid`) leads to a new attempt. A failed remote job whose error
    they do not list is tried again where its verdict says that this may help (docs/errors.md), if they list
    `TransientError`, as they do by default. A submit whose outcome is not known is never retried by them. Unset, the
    endpoint's settings decide how often and how fast.

    `time_limit` and `soft_time_limit` are refused: no process of ours runs as long as the job. Use `deadline_s`.
    """

    abstract = True
    endpoint: ClassVar[str] = "image"

    acks_late = True
    reject_on_worker_lost = True
    track_started = False
    ignore_result = False
    store_errors_even_if_ignored = True
    throws = (JobError, InvalidJob)
    typing = False
    #: What logs and events show of a result: the job's id, and nothing that an endpoint's output may hold.
    resultrepr_maxsize = 64
    #: Hides what the message of an app without this package shows of its arguments.
    Request = "ryla_tasks.tasks.request:JobRequest"
    #: Marks the task for our router.
    serverless: ClassVar[bool] = True

    autoretry_for: ClassVar[tuple[type[Exception], ...]] = (TransientError,)
    dont_autoretry_for: ClassVar[tuple[type[Exception], ...]] = ()
    retry_backoff: ClassVar[float | bool] = False
    retry_backoff_max: ClassVar[float] = 0
    retry_jitter: ClassVar[bool | None] = None
    max_retries: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "run" in cls.__dict__:
            _check_parameters(cls)
        # Celery calls an errback of more than one argument in the worker's own process, and tells by this attribute.
        # A job that is an errback has to be enqueued.
        super().__init_subclass__(**kwargs)
        if "__header__" in cls.__dict__:
            delattr(cls, "__header__")

    #: Celery wraps `run` to carry out `autoretry_for`, unless this name exists. Ours is carried out by the record.
    _orig_run = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Carry out the step that the message asks for; called directly, run the job to its end."""
        request = self.request
        if request.called_directly or request.is_eager:
            return eager.run_to_end(self, args, kwargs)
        header = request.get(HEADER)
        if header is None:
            header = {"recorded": 1, "step": self._adopt(args, kwargs)}
            setattr(request, HEADER, header)
        match header.get("step"):
            case Step.DELIVER:
                return deliver(self)
            case Step.SPREAD:
                return spread(self)
            case _:
                return submit(self, header.get("endpoint"))

    def apply_async(  # type: ignore[override]  # Celery's stubs list each option; ours pass on any
        self,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Accept a job and return its `AsyncResult`. Options are Celery's, and those of `JobOptions`.

        Raises `InvalidJob` for bad input, `ConfigurationError` for an unknown endpoint, `StoreUnavailable` where
        nothing was stored, and `EnqueueUnknown` where that is not known: repeating the call with its `job_id` as
        `task_id` is safe. Once accepted it does not raise: a message that cannot be sent is sent later.
        """
        merged = _words({**(kwargs or {}), **_taken(options)})
        if task_id is not None and not isinstance(task_id, str):
            raise InvalidJob(f"task_id: must be text, not {type(task_id).__name__}", field="task_id")
        if self.app.conf.task_always_eager:
            # Bad input is told in the caller, as it is without eager mode.
            self.check(args, merged)
            return super().apply_async(args, merged, task_id=task_id, **options)
        job_id = task_id or uuid()
        try:
            job_options, rest = split_options(merged)
            plan = self.plan(*(args or ()), **rest)
        except Exception as error:
            # Whatever the task's own function raises, it would raise again: a follower ends with it.
            if isinstance(error, AWAY) or not is_follower(options):
                raise
            return fail_follower(self, job_id, options, error)
        try:
            return enqueue.accept(self, plan, job_options, job_id, dict(options), (args, merged))
        except (InvalidJob, ConfigurationError) as error:
            if not is_follower(options):
                raise
            return fail_follower(self, job_id, options, error)

    def check(self, args: Any = None, kwargs: Mapping[str, Any] | None = None) -> JobSpec:
        """What `apply_async` would make of these arguments, job options among them; nothing is written, nothing sent.

        Raises `InvalidJob` and `ConfigurationError`, as it does.
        """
        job_options, rest = split_options(_words({**(kwargs or {})}))
        spec, _inputs = self.new_spec(self.plan(*(args or ()), **rest), job_options)
        return spec

    def _adopt(self, args: Any, kwargs: dict[str, Any]) -> Step:
        """Accept a job whose message came without a record. While Redis is away it stays with the broker."""
        try:
            crashpoint("before_adoption_recorded")
            step = enqueue.adopt(self, args, kwargs)
            crashpoint("after_adoption_before_submit")
            return step
        except StoreError as error:
            raise Reject(error, requeue=True) from error

    @property
    def backend(self) -> Any:
        """The app's result backend; failures that are not a job's end do not get into it."""
        return JobBackend(self.app, super().backend)

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    def plan(self, *args: Any, **kwargs: Any) -> JobPlan:
        """What the task's function asks for with these arguments."""
        planned = self.run(*args, **kwargs)
        return planned if isinstance(planned, JobPlan) else JobPlan(planned)

    def new_spec(self, plan: JobPlan, options: JobOptions) -> tuple[JobSpec, tuple[str, ...]]:
        """The job's spec and its input as JSON, then those of its fallbacks.

        Raises `InvalidJob` or `ConfigurationError`.
        """
        settings = runtime_of(self.app).settings
        endpoint = settings.endpoint(plan.endpoint or self.endpoint)
        rules = {
            "max_retries": self.max_retries,
            "backoff_s": float(self.retry_backoff) if self.retry_backoff else None,
            "backoff_max_s": self.retry_backoff_max or None,
            "jitter": self.retry_jitter,
        }
        if plan.cells or plan.kept:
            return sheet_spec(self.name, plan, options, endpoint, rules)
        webhook = settings.webhook_url is not None
        spec, own = build_spec(self.name, plan, options, endpoint, rules, webhook=webhook), encode_input(plan)
        if not plan.fallbacks:
            return spec, (own,)
        fallbacks, others = alternatives_of(plan, endpoint)
        return replace(spec, fallbacks=fallbacks), (own, *others)

    def may_retry(self, error: Exception) -> bool:
        """Whether the task's rule lets a job try again after this error."""
        return isinstance(error, tuple(self.autoretry_for)) and not isinstance(error, tuple(self.dont_autoretry_for))

    def may_resubmit(self, error: Exception) -> bool:
        """Whether the task's rule leaves it to the verdict whether a job that failed so is tried again."""
        passing = issubclass(TransientError, tuple(self.autoretry_for))
        return passing and not isinstance(error, tuple(self.dont_autoretry_for))

    def on_success(self, _retval: Any, task_id: str, _args: Any, _kwargs: Any) -> None:
        """Celery has stored the result: nothing more is owed. Of a failure `JobBackend` says so."""
        crashpoint("after_return_before_delivered")
        if not self.request.is_eager:
            runtime_of(self.app).store.delivered(task_id)


def _check_parameters(cls: type[ServerlessTask]) -> None:
    """Raises `ConfigurationError` for a parameter that a job option of the same name would never let through."""
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    for name, parameter in signature(cls.run).parameters.items():
        if parameter.kind in named and name in JobOptions.model_fields:
            raise ConfigurationError(
                f"{cls.__name__}: its parameter {name!r} has the name of an option that every job takes; rename it"
            )


def _taken(options: dict[str, Any]) -> dict[str, Any]:
    """Take the job options out of Celery's. None is how Celery says that it has none (of a priority in a chain)."""
    ours = {name: options.pop(name) for name in options.keys() & JobOptions.model_fields.keys()}
    return {name: value for name, value in ours.items() if value is not None}


def _words(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Celery's numbers for a priority (0 goes first on Redis) as words; anything else as it is."""
    priority = kwargs.get("priority")
    if isinstance(priority, int) and not isinstance(priority, bool):
        word = "high" if priority <= 2 else "normal" if priority <= 5 else "low"
        return {**kwargs, "priority": word}
    return kwargs
