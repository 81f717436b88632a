"""What is refused before a view runs: requests that another site has a browser make, and bodies that are too large.

A session cookie goes along with whatever any site sends to the app, so a request that changes something must come from
a page of the app's own. The browser says where it comes from: `Sec-Fetch-Site` on https and loopback, `Origin` on every
POST. A request with neither comes from no browser of today, and carries nobody's cookies but its sender's.
https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Request, current_app
from werkzeug.exceptions import Forbidden

from ryla_tasks.contrib.web import Rules
from ryla_tasks.webhooks import MOST_BYTES

__all__ = ["PUBLIC", "check_origin", "exempt_from_csrf", "limit_body"]

#: Views that other machines call, which have no session: a token or a signature in the address says that they may.
PUBLIC = frozenset({"webhook", "shared"})

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: The boundaries and headers around one file.
_AROUND_FILE = 16 * 1024


def check_origin(request: Request, origins: Collection[str]) -> None:
    """Raise `Forbidden` for an unsafe request from a page that is neither the app's nor of one of these `origins`."""
    if request.method in _SAFE:
        return
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is not None and origin in origins:
        return
    if site is not None:
        allowed = site in ("same-origin", "none")
    else:
        # The scheme is not compared: behind a proxy that speaks TLS the app may not know it.
        allowed = origin is None or urlsplit(origin).netloc == request.host
    if not allowed:
        raise Forbidden("This request comes from another site.")


def limit_body(request: Request, view: str, rules: Rules) -> None:
    """Have no more read of a body than the view may get, whoever reads it, and however it comes.

    One byte more is let through: a body in chunks is cut off at the limit, and whoever gets it could not tell.
    """
    if view == "upload":
        most = rules.most_upload + _AROUND_FILE
    elif view == "webhook":
        most = MOST_BYTES
    else:
        most = rules.most_body
    request.max_content_length = most + 1


def exempt_from_csrf(view: str) -> None:
    """Tell Flask-WTF's CSRFProtect, where the app has it, that a public view is called without its token."""
    protection = current_app.extensions.get("csrf")
    if protection is not None and hasattr(protection, "exempt"):
        protection.exempt(f"ryla_tasks.contrib.flask.views.{view}")
