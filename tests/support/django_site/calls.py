"""A Django process that a test has do things: a line of JSON in, one out.

{"call": NAME, ...arguments} is answered by {"value": ...} or {"error": TYPE, "message": ...}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import django

django.setup()

from django.core.checks import run_checks  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.management.base import CommandError  # noqa: E402
from django.db import close_old_connections, connection, transaction  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from ryla_tasks import Job  # noqa: E402
from ryla_tasks.contrib.django import Visitor, enqueue_on_commit, submit  # noqa: E402
from ryla_tasks.errors import JobNotFound, StoreError  # noqa: E402
from ryla_tasks.settings import reset_settings  # noqa: E402
from tests.support.django_site.models import Picture  # noqa: E402


class _Undone(Exception):
    pass


def _exists(job_id: str) -> bool:
    try:
        Job.get(job_id)
    except JobNotFound:
        return False
    return True


def enqueue(*, commit: bool = True, row: bool = True, job_id: str = "", **kwargs: Any) -> dict[str, Any]:
    """Enqueue in a transaction; whether the job is there before its end, and after it."""
    seen: dict[str, Any] = {}
    try:
        with transaction.atomic():
            job = enqueue_on_commit("ryla.run_endpoint", "echo", {"n": 1}, job_id=job_id, **kwargs)
            seen |= {"id": job.id, "before": _exists(job.id)}
            if row:
                wish = {"task": "ryla.run_endpoint", "args": ["echo", {"n": 1}], "kwargs": kwargs}
                Picture.objects.create(job_id=job.id, wish=wish)
            if not commit:
                raise _Undone
    except _Undone:
        pass
    return {**seen, "after": _exists(job.id), "row": Picture.objects.filter(job_id=job.id).exists()}


def enqueue_and_lose() -> dict[str, str]:
    """Enqueue in a transaction at whose commit Redis is away: the error, and the id that the row has."""
    error, arguments = "", ("echo", {"n": 1})
    try:
        with transaction.atomic():
            job = enqueue_on_commit("ryla.run_endpoint", *arguments)
            Picture.objects.create(job_id=job.id, wish={"task": "ryla.run_endpoint", "args": arguments, "kwargs": {}})
    except StoreError as raised:
        error = type(raised).__name__
    return {"error": error, "id": job.id}


def outside(**kwargs: Any) -> str:
    """Enqueue without a transaction."""
    return enqueue_on_commit("ryla.run_endpoint", "echo", {"n": 1}, **kwargs).id


def wish(*, user: str, said: dict[str, Any], key: str = "") -> str:
    return submit(Visitor(user), said, idempotency_key=key).id


def rows() -> list[dict[str, Any]]:
    return list(Picture.objects.order_by("id").values("job_id", "owner", "title", "status", "heard"))


def age(*, job_id: str, days: float) -> None:
    Picture.objects.filter(job_id=job_id).update(created_at=timezone.now() - timedelta(days=days))


def clear() -> None:
    Picture.objects.all().delete()


def outbox() -> dict[str, Any]:
    out, err, problem = StringIO(), StringIO(), ""
    try:
        call_command("ryla_outbox", stdout=out, stderr=err)
    except CommandError as error:
        problem = str(error)
    return {"out": out.getvalue().strip(), "err": err.getvalue().strip(), "problem": problem}


def check(*, deploy: bool = False, **changes: Any) -> list[list[str]]:
    """What the checks say with settings changed: ids, messages and hints."""
    with override_settings(**changes):
        reset_settings()
        found = run_checks(tags=["ryla"], include_deployment_checks=deploy)
    reset_settings()
    return [[str(one.id), str(one.msg), str(one.hint)] for one in found]


def manage(*, words: list[str]) -> str:
    out = StringIO()
    call_command(*words, stdout=out, stderr=out)
    return out.getvalue()


def stale() -> bool:
    """Whether a connection that is too old is replaced before a receiver uses it."""
    from ryla_tasks.contrib.django import job_ended
    from ryla_tasks.contrib.django.signals import _pass_on

    connection.ensure_connection()
    old, seen = connection.connection, []
    connection.close_at = 0.0

    def look(**_more: Any) -> None:
        connection.ensure_connection()
        seen.append(connection.connection is not old)

    job_ended.connect(look)
    job = Job(outside())
    _pass_on(job=job, record=job.record)
    job_ended.disconnect(look)
    return seen == [True]


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        function: Callable[..., Any] = globals()[asked.pop("call")]
        try:
            told = {"value": function(**asked)}
        except Exception as error:
            told = {"error": type(error).__name__, "message": str(error)}
        close_old_connections()
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
