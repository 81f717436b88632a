"""What stands around the jobs: settings, files, the webhook, templates, alerts, Flower."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ryla_tasks.doctor.finding import Finding, ok, problem, warning
from ryla_tasks.errors import ConfigurationError, RylaError

if TYPE_CHECKING:
    from ryla_tasks.tasks.runtime import Runtime

__all__ = ["alerts", "artifacts", "flower", "settings", "templates", "webhook"]


def settings(runtime: Runtime) -> Iterator[Finding]:
    """They have been read, or nobody would be here."""
    names = ", ".join(sorted(runtime.settings.endpoints)) or "none"
    yield ok(f"read; endpoints: {names}")


def artifacts(runtime: Runtime) -> Iterator[Finding]:
    """A small file is stored, read back and removed."""
    key, data = f"doctor/{secrets.token_hex(8)}.txt", b"ryla doctor"
    where = runtime.settings.artifacts.partition("?")[0]
    advice = "Workers and web processes need the same place, and may write there: see RYLA_ARTIFACTS."
    try:
        store = runtime.artifacts
        store.put(key, data, "text/plain")
        back = store.get(key)
        store.delete(key)
    except (RylaError, OSError) as error:
        yield problem(f"{where} cannot be used: {error}", advice)
        return
    if back != data:
        yield problem(f"{where} gives back something else than was stored", advice)
    else:
        yield ok(f"{where.partition('://')[0]}: a file was stored, read and removed")


def webhook(runtime: Runtime) -> Iterator[Finding]:
    """Its address is looked at, and not called: whether RunPod can reach it shows when it does."""
    url = runtime.settings.webhook_url
    if url is None:
        yield ok("not used: results are noticed by polls alone")
        return
    parts = urlsplit(url)
    if _is_private(parts.hostname or ""):
        yield problem(f"RunPod cannot reach {parts.hostname}", "Set RYLA_WEBHOOK_URL to a public https address.")
    elif parts.scheme != "https":
        yield warning("its address is not https", "The token in its path is the only secret: use https.")
    else:
        yield ok(f"https://{parts.hostname}, with a secret")


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".internal", ".localhost")) or "." not in host


def templates(runtime: Runtime) -> Iterator[Finding]:
    from ryla_tasks.workflows import list_templates

    folder = runtime.settings.templates_dir
    try:
        found = list_templates(folder)
    except (RylaError, ValueError, OSError) as error:
        yield problem(f"{folder}: {error}", "Correct it; `ryla workflows check NAME` says more.")
        return
    yield ok(f"{len(found)} templates" + (f", those in {folder} included" if folder else ""))


def alerts(runtime: Runtime) -> Iterator[Finding]:
    """Their addresses are read, and nothing is sent: that is `ryla alerts test`."""
    urls = runtime.settings.alert_urls
    if not urls:
        yield warning("alerts go nowhere but to `ryla alerts`", "Set RYLA_ALERT_URLS (docs/alerts.md).")
        return
    try:
        from ryla_tasks.alerts.services import services_of

        services = services_of(urls)
    except ConfigurationError as error:
        yield problem(str(error), "Correct it; until then no alert is sent.")
        return
    yield ok(f"{', '.join(service.name for service in services)}; `ryla alerts test` sends one")


#: Variables of Flower's, each of which asks people who they are.
_AUTH = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH")
_OPEN_API = "FLOWER_UNAUTHENTICATED_API"


def flower(runtime: Runtime) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    yield from flower_findings(os.environ)


def flower_findings(env: Mapping[str, str]) -> Iterator[Finding]:
    """What this environment says of a Flower: one that is started elsewhere is not seen."""
    theirs = [name for name in env if name.startswith("FLOWER_")]
    asks = any(env.get(name) for name in _AUTH)
    if env.get(_OPEN_API, "").lower() in ("1", "true", "yes", "on"):
        yield problem(
            f"{_OPEN_API} is on: whoever reaches Flower may revoke jobs and shut workers down",
            f"Unset it, and set {_AUTH[0]}=user:password.",
        )
    elif theirs and not asks:
        yield warning(
            "Flower is configured here without a login",
            f"Set {_AUTH[0]}=user:password, or OAuth ({_AUTH[1]}, FLOWER_AUTH_PROVIDER).",
        )
    elif asks:
        yield ok("a login is configured")
    else:
        yield ok("none is configured in this environment; one that runs needs a login")
