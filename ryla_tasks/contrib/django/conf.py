"""`settings.RYLA_WEB`: who asks, what they may ask for, and whose Celery app carries it out. A dict; all is optional.

    VISITOR      "app.module.function": gets the request, returns a Visitor, a user's id, or None for a stranger
    PREPARE      "app.module.function": the last word on what a browser asks for (see `Rules.prepare`)
    OUTBOX       "app.module.function": yields what may have been committed without a job (see outbox.py)
    CELERY       "project.celery.app": the project's own Celery app, into which the tasks are installed
    TASKS, OPTIONS, WORKFLOWS, LORAS, MOST_BODY, MOST_UPLOAD: as in `Rules`

What `settings.RYLA` may hold, where jobs and results are, is in docs/django.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from celery import Celery
from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.utils.module_loading import import_string

from ryla_tasks.celery_app import install
from ryla_tasks.contrib.web import Rules, Visitor, visitor_of
from ryla_tasks.errors import ConfigurationError

__all__ = ["WebSettings", "current_visitor", "problems", "signed_in_user", "web_settings"]

#: Says who asks.
Hook = Callable[[HttpRequest], "Visitor | str | int | None"]

_DOTTED = ("VISITOR", "PREPARE", "OUTBOX")


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What `RYLA_WEB` says, with its functions found."""

    visitor: Hook
    rules: Rules = field(default_factory=Rules)
    outbox: Callable[[], Any] | None = None


def signed_in_user(request: HttpRequest) -> str | None:
    """Who asks, unless `VISITOR` says otherwise: the user who is signed in, by primary key. Staff see no more than
    others here; their pages are in the admin."""
    user = getattr(request, "user", None)
    return str(user.pk) if user is not None and user.is_authenticated and user.is_active else None


def current_visitor(request: HttpRequest) -> Visitor:
    """Who asks. Raises `NotSignedIn` for a stranger."""
    return visitor_of(web_settings().visitor(request))


@cache
def web_settings() -> WebSettings:
    """What `RYLA_WEB` says; the tasks are in the Celery app that it names, from then on.

    Raises `ConfigurationError`, with a line for each mistake.
    """
    given = getattr(settings, "RYLA_WEB", {})
    found: dict[str, Any] = {}
    wrong = _read(given, found)
    if wrong:
        raise ConfigurationError("\n".join(wrong), setting="RYLA_WEB")
    rules = {name.lower(): found[name] for name in found.keys() & _RULES.keys()}
    if "PREPARE" in found:
        rules["prepare"] = found["PREPARE"]
    if "CELERY" in found:
        install(found["CELERY"])
    return WebSettings(found.get("VISITOR", signed_in_user), Rules(**rules), found.get("OUTBOX"))


def problems() -> list[str]:
    """A line for each mistake in `RYLA_WEB`."""
    return _read(getattr(settings, "RYLA_WEB", {}), {})


def _read(given: Any, found: dict[str, Any]) -> list[str]:
    """Put what is right into `found`; a line for each thing that is not."""
    if not isinstance(given, Mapping):
        return [f"RYLA_WEB: must be a dict, not {type(given).__name__}"]
    wrong = []
    for name, value in given.items():
        try:
            found[name] = _value(name, value)
        except _Wrong as error:
            wrong.append(f"RYLA_WEB[{name!r}]: {error}")
    return wrong


class _Wrong(Exception):
    """A value cannot be what its name stands for."""


def _value(name: Any, value: Any) -> Any:
    if name in _DOTTED:
        called = _import(value)
        if not callable(called):
            raise _Wrong(f"{value!r} is no function")
        return called
    if name == "CELERY":
        app = _import(value)
        if not isinstance(app, Celery):
            raise _Wrong(f"{value!r} is no Celery app; name one, as 'project.celery.app'")
        return app
    if name in _RULES:
        return _RULES[name](value)
    close = difflib.get_close_matches(str(name), [*_DOTTED, "CELERY", *_RULES], n=1)
    raise _Wrong("is no setting" + (f"; did you mean {close[0]}?" if close else ""))


def _import(path: Any) -> Any:
    if not isinstance(path, str):
        raise _Wrong(f"must be a dotted path, as 'app.module.name', not {type(path).__name__}")
    try:
        return import_string(path)
    except ImportError as error:
        raise _Wrong(f"cannot be imported: {error}") from error


def _names(value: Any) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Collection) or not all(isinstance(one, str) for one in value):
        raise _Wrong("must be a list of names")
    return frozenset(value)


def _tasks(value: Any) -> dict[str, str]:
    known = Rules().tasks
    if isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair):
        return dict(value)
    names = _names(value)
    if unknown := sorted(names - known.keys()):
        raise _Wrong(
            f"{unknown[0]!r} is none of {', '.join(known)}; for a task of your own give a dict from the name in a "
            f"browser to the name in Celery"
        )
    return {name: known[name] for name in known if name in names}


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("must be True or False")
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Wrong("must be a number of bytes")
    return value


_RULES: Mapping[str, Callable[[Any], Any]] = {
    "TASKS": _tasks,
    "OPTIONS": _names,
    "WORKFLOWS": _flag,
    "LORAS": _names,
    "MOST_BODY": _bytes,
    "MOST_UPLOAD": _bytes,
}


def _forget(*, setting: str, **_more: Any) -> None:
    if setting == "RYLA_WEB":
        web_settings.cache_clear()


setting_changed.connect(_forget)
