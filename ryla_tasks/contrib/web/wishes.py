"""The body of a POST as a job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

from ryla_tasks.celery_app import current_app
from ryla_tasks.contrib.web.rules import Rules
from ryla_tasks.contrib.web.uploads import owns
from ryla_tasks.contrib.web.visitor import Visitor, job_of
from ryla_tasks.errors import InvalidJob, JobError, JobNotFound, PayloadTooLarge, WaitTimeout
from ryla_tasks.job import Job
from ryla_tasks.tasks.plan import JobOptions

__all__ = ["Wish", "enqueue", "read_body", "read_wish"]

#: Arguments that a browser may not give whatever the options: they are for canvases and for whole workflows.
_INTERNAL = frozenset({"previous", "endpoint", "input"})
_WORKFLOW = frozenset({"workflow", "images"})

#: What an angle of a sheet, which has arguments of its own, may not have of them.
_NOT_NESTED = frozenset({"previous", "resume", "template", "workflow", "images"})

_DEEPEST = 32


def read_body(body: bytes, content_type: str, rules: Rules) -> dict[str, Any]:
    """The JSON object in a body. Raises `InvalidJob`, `PayloadTooLarge` among them.

    Only JSON is taken: that a browser sends no JSON to another site without asking first is part of what keeps forged
    requests out.
    """
    if len(body) > rules.most_body:
        raise PayloadTooLarge(f"the body has more than {rules.most_body} bytes", field="body")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidJob("body: must be JSON, with Content-Type: application/json", field="body")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidJob("body: is not JSON", field="body") from None
    if not isinstance(said, dict):
        raise InvalidJob("body: must be a JSON object", field="body")
    return said


@dataclass(frozen=True, slots=True)
class Wish:
    """A job that is asked for: its task's name in Celery, and its arguments, job options among them. Plain JSON, as far
    as what it was read from was; with the same `job_id` it may be enqueued again and makes no second job."""

    task: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def enqueue(self, job_id: str | None = None) -> Job:
        """Have the job accepted. Raises what `apply_async` raises."""
        task = current_app().tasks[self.task]
        return Job(task.apply_async(args=self.args, kwargs=dict(self.kwargs), task_id=job_id).id)


def enqueue(
    visitor: Visitor, said: Mapping[str, Any], rules: Rules, *, idempotency_key: str = "", job_id: str | None = None
) -> Job:
    """Accept the job that a browser asks for: `read_wish`, carried out at once. Raises what that does, and what
    `apply_async` raises."""
    return read_wish(visitor, said, rules, idempotency_key=idempotency_key).enqueue(job_id)


def read_wish(visitor: Visitor, said: Mapping[str, Any], rules: Rules, *, idempotency_key: str = "") -> Wish:
    """What a browser asks for: `{"task": "generate_image", "template": ..., "prompt": ...}`.

    The job is the visitor's. With `previous_job`, the id of a completed one of theirs, it takes that one's result as it
    would in a chain: an image, or the LoRA of a training. Raises `InvalidJob` naming the field.
    """
    given = dict(said)
    name, earlier = given.pop("task", None), given.pop("previous_job", None)
    if not isinstance(name, str) or name not in rules.tasks:
        raise InvalidJob(f"task: must be one of {', '.join(rules.tasks)}", field="task")
    own = rules.tasks[name].startswith("ryla.")
    _check_arguments(given, rules, own=own)
    _Values(visitor, rules, own).check(given)
    if key := idempotency_key.strip():
        given["idempotency_key"] = key
    if rules.prepare is not None:
        given = rules.prepare(visitor, name, given)
    args = () if earlier is None else (_result(visitor, earlier),)
    _check_names(rules.tasks[name], args, given)
    return Wish(rules.tasks[name], args, {**given, "user_id": visitor.user_id})


def _result(visitor: Visitor, earlier: Any) -> dict[str, Any]:
    field = "previous_job"
    try:
        return job_of(visitor, str(earlier)).result()
    except JobNotFound as error:
        raise InvalidJob(f"{field}: you have no such job", field=field) from error
    except (JobError, WaitTimeout) as error:
        raise InvalidJob(f"{field}: has no result: {error}", field=field) from error


def _check_names(task: str, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
    """Raises `InvalidJob` for arguments that the task does not have, and where one that it must have is missing."""
    own = {name: value for name, value in given.items() if name not in JobOptions.model_fields}
    expected = signature(current_app().tasks[task].run)
    if Parameter.VAR_KEYWORD not in {one.kind for one in expected.parameters.values()}:
        unknown = min(own.keys() - expected.parameters.keys(), default=None)
        if unknown is not None:
            raise InvalidJob(f"{unknown}: is no argument of this task", field=unknown)
    try:
        expected.bind(*args, **own)
    except TypeError as error:
        raise InvalidJob(f"arguments: {error}", field="arguments") from None


def _check_arguments(given: Mapping[str, Any], rules: Rules, *, own: bool) -> None:
    """Raises `InvalidJob` for arguments that are not a browser's to give; of an app's `own` tasks only for options."""
    refused = (JobOptions.model_fields.keys() - rules.options) & given.keys()
    refused |= {"self"} & given.keys()
    if own:
        refused |= _INTERNAL & given.keys()
        if not rules.workflows and "workflow" in given:
            refused |= _WORKFLOW & given.keys()
        if _is_foreign_lora(given, rules):
            refused.add("lora")
    if refused:
        name = min(refused)
        raise InvalidJob(f"{name}: is not for a browser to say; leave it out", field=name)


def _is_foreign_lora(given: Mapping[str, Any], rules: Rules) -> bool:
    return given.get("lora") is not None and given["lora"] not in tuple(rules.loras)


@dataclass(frozen=True, slots=True)
class _Values:
    """Looks at all that is in the arguments, however deep: an angle of a sheet has arguments of its own."""

    visitor: Visitor
    rules: Rules
    own: bool

    def check(self, value: Any, path: str = "", depth: int = 0) -> None:
        """Raises `InvalidJob` for an artifact that is not the visitor's, and for what is not a browser's to say."""
        if depth > _DEEPEST:
            raise InvalidJob(f"{path}: is nested too deeply", field=path)
        if isinstance(value, Mapping):
            if depth:
                self._check_object(value, path)
            for name, one in value.items():
                self.check(one, f"{path}.{name}".lstrip("."), depth + 1)
        elif isinstance(value, list | tuple):
            for place, one in enumerate(value):
                self.check(one, f"{path}.{place}".lstrip("."), depth + 1)

    def _check_object(self, value: Mapping[str, Any], path: str) -> None:
        if "key" in value and not owns(self.visitor, value["key"]):
            raise InvalidJob(f"{path}: there is no artifact of yours with this key", field=path)
        if not self.own or path.partition(".")[0] == "workflow":
            return
        refused = _NOT_NESTED & value.keys()
        if _is_foreign_lora(value, self.rules):
            refused |= {"lora"}
        if refused:
            name = f"{path}.{min(refused)}"
            raise InvalidJob(f"{name}: is not for a browser to say; leave it out", field=name)
