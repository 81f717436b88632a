"""The list of jobs for the admin: read from Redis, a page at a time, from where the last page ended."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from ryla_tasks.celery_app import current_app
from ryla_tasks.contrib.django.conf import signed_in_user, web_settings
from ryla_tasks.errors import JobNotFound
from ryla_tasks.job import Job
from ryla_tasks.jobs.cost import so_far
from ryla_tasks.jobs.ending import raised
from ryla_tasks.jobs.progress import progress_of
from ryla_tasks.jobs.record import JobRecord
from ryla_tasks.jobs.states import State
from ryla_tasks.store.listing import count_states, list_records
from ryla_tasks.tasks.runtime import runtime_of

__all__ = ["Filter", "JobPage", "moment", "read_page", "row_of", "user_names"]

_MOST = 50

_KINDS = ("image", "lora", "special")


@dataclass(frozen=True, slots=True)
class Filter:
    """A list of choices beside the page: `(query, words, chosen)` each."""

    title: str
    choices: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True)
class JobPage:
    """What the admin's list shows. `older` is the query of the next page, empty where there is none."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    filters: list[Filter] = field(default_factory=list)
    query: str = ""
    older: str = ""
    is_first: bool = True
    is_filtered: bool = False


def read_page(given: Mapping[str, str]) -> JobPage:
    """The page that a query asks for: `status`, `kind`, `endpoint`, `q` (a job's id, or a user), `after`.

    What is no value of a filter is as good as not given. Raises `StoreUnavailable`.
    """
    runtime = runtime_of(current_app())
    endpoints = tuple(runtime.settings.endpoints)
    chosen = {
        "status": _one_of(given.get("status"), tuple(State)),
        "kind": _one_of(given.get("kind"), _KINDS),
        "endpoint": _one_of(given.get("endpoint"), endpoints),
    }
    query = given.get("q", "").strip()
    after = _position(given.get("after", ""))
    records = _records(chosen, query, after)
    more, records = len(records) > _MOST, records[:_MOST]
    counts = count_states(runtime.client, runtime.settings.key_prefix)
    present = tuple(state for state in State if counts[state] or state == chosen["status"])
    kept = {name: value for name, value in chosen.items() if value} | ({"q": query} if query else {})
    now, names = time.time(), user_names(record.spec.user_id for record in records)
    return JobPage(
        [row_of(record, now, names) for record in records],
        [
            _filter("status", present, kept, {state: f"{state} ({counts[state]})" for state in present}),
            _filter("kind", _KINDS, kept),
            _filter("endpoint", endpoints, kept),
        ],
        query,
        urlencode({**kept, "after": f"{records[-1].created!r}~{records[-1].job_id}"}) if more else "",
        after is None,
        bool(kept),
    )


def row_of(record: JobRecord, now: float, names: Mapping[str, str]) -> dict[str, Any]:
    """A job as the admin shows it."""
    spec, progress = record.spec, progress_of(record, now)
    error = raised(record.job_id, record.ending) if record.ending and "error" in record.ending else None
    return {
        "id": record.job_id,
        "state": str(record.state),
        "ended": record.state.ended,
        "percent": progress.percent,
        "message": progress.message,
        "task": spec.task.removeprefix("ryla."),
        "label": ((record.ending or {}).get("result") or {}).get("label", spec.label),
        "endpoint": spec.endpoint,
        "user": spec.user_id,
        "user_name": names.get(spec.user_id, spec.user_id),
        "created": moment(record.created),
        "took_s": (record.ended or now) - record.created,
        "cost_usd": so_far(record, now),
        "error": "" if error is None else str(error),
    }


def user_names(ids: Iterable[str]) -> dict[str, str]:
    """Users' names by their ids in jobs, where these are primary keys: unless `VISITOR` says who is who."""
    wanted = {one for one in ids if one}
    if not wanted or web_settings().visitor is not signed_in_user:
        return {}
    users = get_user_model()
    key = users._meta.pk  # noqa: SLF001 - Django's documented API
    assert key is not None
    keys = [one for one in wanted if _is_key(key, one)]
    return {str(user.pk): user.get_username() for user in users._default_manager.filter(pk__in=keys)}  # noqa: SLF001


def moment(seconds: float) -> datetime.datetime | None:
    """Seconds since the epoch for a template; None for 0, which stands for not yet."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC) if seconds else None


def _records(chosen: Mapping[str, str], query: str, after: tuple[float, str] | None) -> list[JobRecord]:
    if query:
        try:
            return [Job.get(query).record]
        except JobNotFound:
            pass  # then it is a user
    runtime = runtime_of(current_app())
    found = list_records(
        runtime.client,
        runtime.settings.key_prefix,
        user_id=_user_id(query) if query else None,
        kind=chosen["kind"] or None,
        state=State(chosen["status"]) if chosen["status"] else None,
        endpoint=chosen["endpoint"] or None,
        cells=False,
        after=after,
    )
    return list(itertools.islice(found, _MOST + 1))


def _user_id(query: str) -> str:
    """The id in jobs of whom a query names: a user's name will do, where the ids are primary keys."""
    if web_settings().visitor is not signed_in_user:
        return query
    users = get_user_model()
    found = users._default_manager.filter(**{str(users.USERNAME_FIELD): query}).first()  # noqa: SLF001
    return query if found is None else str(found.pk)


def _is_key(key: Any, text: str) -> bool:
    try:
        key.to_python(text)
    except (ValueError, TypeError, ValidationError):
        return False
    return True


def _one_of(value: str | None, known: tuple[str, ...]) -> str:
    return value if value is not None and value in known else ""


def _filter(
    name: str, values: tuple[str, ...], kept: Mapping[str, str], words: Mapping[str, str] | None = None
) -> Filter:
    others = {key: value for key, value in kept.items() if key != name}
    chosen = kept.get(name, "")
    every = (urlencode(others), "All", not chosen)
    return Filter(
        name,
        (
            every,
            *((urlencode({**others, name: one}), (words or {}).get(one, str(one)), one == chosen) for one in values),
        ),
    )


def _position(text: str) -> tuple[float, str] | None:
    created, found, job_id = text.partition("~")
    try:
        return (float(created), job_id) if found and 0 < float(created) < 1e11 else None
    except ValueError:
        return None
