"""What `manage.py check` says of the project; nothing is connected to. `check --deploy` says what is only for a laptop.

ryla.E001  a setting is missing or wrong       ryla.W001  nobody can be signed in
ryla.E002  RYLA_WEB is wrong                   ryla.W002  the CSRF middleware is missing
ryla.E003  the Celery app has no Redis         ryla.W003  webhook_url does not lead to our view
                                               ryla.W004  artifacts_url does not lead to our view
With --deploy: ryla.W101 the simulator, ryla.W102 an address without TLS, ryla.W103 prompts in logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.core.checks import register as register_check
from django.urls import Resolver404, resolve

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.settings import Settings, get_settings

__all__ = ["TAG", "register"]

TAG = "ryla"

_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
_CSRF = "django.middleware.csrf.CsrfViewMiddleware"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - compared with, not bound to


def register() -> None:
    """Have Django run these. Safe to call twice."""
    register_check(_settings, TAG)
    register_check(_web, TAG)
    register_check(_celery, TAG)
    register_check(_addresses, TAG)
    register_check(_deployment, TAG, deploy=True)


def _settings(**_more: Any) -> list[CheckMessage]:
    try:
        get_settings()
    except ConfigurationError as error:
        hint = "Settings are read from the environment, settings.RYLA, and a .env file; see docs/django.md."
        return [Error(str(error), hint=hint, id="ryla.E001")]
    return []


def _web(**_more: Any) -> list[CheckMessage]:
    from ryla_tasks.contrib.django.conf import problems

    found: list[CheckMessage] = [Error(line, id="ryla.E002") for line in problems()]
    middleware = django_settings.MIDDLEWARE
    asks_user = "VISITOR" not in getattr(django_settings, "RYLA_WEB", {})
    if asks_user and not _has(middleware, _AUTHENTICATION):
        found.append(
            Warning(
                "Nobody can ask for a job: there is no AuthenticationMiddleware, so everybody is a stranger.",
                hint="Add it to MIDDLEWARE, or set RYLA_WEB['VISITOR'] to a function that knows who asks.",
                id="ryla.W001",
            )
        )
    if not _has(middleware, _CSRF):
        found.append(
            Warning(
                "CsrfViewMiddleware is not in MIDDLEWARE. Ryla's views want its token all the same, and without it no "
                "page has one.",
                hint=f"Add {_CSRF!r} to MIDDLEWARE.",
                id="ryla.W002",
            )
        )
    return found


def _celery(**_more: Any) -> list[CheckMessage]:
    from ryla_tasks.celery_app import app as own
    from ryla_tasks.celery_app import current_app
    from ryla_tasks.contrib.django.conf import problems, web_settings

    if problems():
        return []
    hint = (
        "ryla_tasks keeps jobs in the database of the result backend, and writes a job's record and its progress in "
        "one step. Set CELERY_RESULT_BACKEND = 'redis://...' (django-db, the cache and RPC cannot do that), or leave "
        "out RYLA_WEB['CELERY']: jobs then have a Celery app of their own, beside the project's."
    )
    try:
        web_settings()
    except ConfigurationError as error:
        return [Error(str(error), hint=hint, id="ryla.E003")]
    app = current_app()
    if app is not own and not app.conf.result_backend:
        return [Error(f"The Celery app {app.main!r} has no result backend.", hint=hint, id="ryla.E003")]
    return []


def _addresses(**_more: Any) -> list[CheckMessage]:
    """The public addresses in the settings, as far as they can be judged from here: a proxy may cut paths."""
    settings = _known()
    if settings is None:
        return []
    found: list[CheckMessage] = []
    for name, url, view, number in (
        ("webhook_url", settings.webhook_url, "webhook", 3),
        ("artifacts_url", settings.artifacts_url, "shared", 4),
    ):
        if url is not None and not _leads_to(str(url), view):
            found.append(
                Warning(
                    f"{name} is {url}, and no URL of this project there leads to ryla's view {view!r}.",
                    hint='Add path("ryla/", include("ryla_tasks.contrib.django.urls")) to the urls, and set '
                    f"{name} to the address of its {'webhooks' if view == 'webhook' else 'shared'}. If a proxy cuts "
                    f"the path, or another process serves it, silence ryla.W00{number}.",
                    id=f"ryla.W00{number}",
                )
            )
    return found


def _deployment(**_more: Any) -> list[CheckMessage]:
    settings = _known()
    if settings is None:
        return []
    found: list[CheckMessage] = []
    if urlsplit(str(settings.runpod_url)).hostname in _LOOPBACK:
        found.append(
            Warning(
                f"Jobs go to a simulated RunPod: runpod_url is {settings.runpod_url}.",
                hint="Leave RYLA_RUNPOD_URL out, and see whether RYLA_ENV_FILE still names the settings of `ryla dev`.",
                id="ryla.W101",
            )
        )
    for name, url in (("webhook_url", settings.webhook_url), ("artifacts_url", settings.artifacts_url)):
        if url is not None and urlsplit(str(url)).scheme != "https":
            found.append(
                Warning(
                    f"{name} is without TLS: whoever sees its address has what it protects.",
                    hint=f"Give {name} an https address.",
                    id="ryla.W102",
                )
            )
    if settings.show_arguments:
        found.append(
            Warning("show_arguments is on: prompts and signed URLs are in logs and in Flower.", id="ryla.W103")
        )
    return found


def _known() -> Settings | None:
    """The settings, where they are right; what is wrong with them is E001's to say."""
    try:
        return get_settings()
    except ConfigurationError:
        return None


def _leads_to(url: str, view: str) -> bool:
    try:
        match = resolve(urlsplit(url).path.rstrip("/") + "/x")
    except Resolver404:
        return False
    return match.app_names[-1:] == ["ryla"] and match.url_name == view


def _has(middleware: Iterable[str], wanted: str) -> bool:
    """Whether a middleware is there, or one made from it."""
    from django.utils.module_loading import import_string

    base = import_string(wanted)
    for path in middleware:
        if path == wanted:
            return True
        try:
            found = import_string(path)
        except ImportError:
            continue  # Django says so itself
        if isinstance(found, type) and issubclass(found, base):
            return True
    return False
