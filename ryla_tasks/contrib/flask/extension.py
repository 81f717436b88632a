"""The Flask extension: who asks, what they may ask for, and which Celery app does it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from celery import Celery
from flask import Flask
from flask import current_app as flask_app

from ryla_tasks.celery_app import install
from ryla_tasks.config.sources import take_flask_config
from ryla_tasks.contrib.flask.commands import add_commands
from ryla_tasks.contrib.flask.signals import Bridge, job_accepted
from ryla_tasks.contrib.flask.views import blueprint
from ryla_tasks.contrib.web import Rules, Visitor, enqueue, visitor_of
from ryla_tasks.job import Job

__all__ = ["Ryla"]

#: Says who asks: a `Visitor`, a user's id, or None for a stranger. Called within a request.
Hook = Callable[[], "Visitor | str | int | None"]


class Ryla:
    """Jobs for a Flask app.

    `visitor` says who asks (or the decorator `@ryla.visitor` does); without it everybody is a stranger, and refused.
    `rules` are what a browser may ask for. `celery` is an app of your own, into which the tasks are installed; its
    result backend must be Redis. `origins` are other sites of yours whose pages may send jobs here
    (`https://studio.example`).

    Settings may stand in `app.config["RYLA"]`, by the names of the environment without RYLA_; the environment goes
    over them. Use one such set in a process: a second app's takes the place of the first's.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        visitor: Hook | None = None,
        rules: Rules | None = None,
        url_prefix: str = "/ryla",
        celery: Celery | None = None,
        origins: Collection[str] = (),
    ) -> None:
        self.rules = rules or Rules()
        self.origins = frozenset(origins)
        self._hook = visitor
        self._url_prefix = url_prefix
        self._celery = celery
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, celery: Celery | None = None) -> None:
        """Give an app its routes, commands and signals. Raises `ConfigurationError` for a Celery app without Redis."""
        if "RYLA" in app.config:
            take_flask_config(app.config["RYLA"])
        if host := celery or self._celery:
            install(host)
        app.extensions["ryla"] = self
        app.extensions["ryla_bridge"] = Bridge(app)
        app.register_blueprint(blueprint, url_prefix=self._url_prefix)
        add_commands(app)

    def visitor(self, hook: Hook) -> Hook:
        """Take a function as the one that says who asks; a decorator."""
        self._hook = hook
        return hook

    @property
    def current_visitor(self) -> Visitor:
        """Who asks. Raises `NotSignedIn` for a stranger."""
        if self._hook is None:
            flask_app.logger.warning(
                "Ryla refuses everybody, because it was not told how to know who asks: "
                "give it visitor=, a function that returns the user's id, or None for a stranger"
            )
            return visitor_of(None)
        return visitor_of(self._hook())

    def submit(
        self, wish: Mapping[str, Any], *, visitor: Visitor | None = None, idempotency_key: str = "", job_id: str = ""
    ) -> Job:
        """Accept a job for whoever asks, as POST jobs does: for an app's own routes.

        Raises `NotSignedIn`, `InvalidJob` naming the field, and what `apply_async` raises.
        """
        visitor = visitor or self.current_visitor
        job = enqueue(visitor, wish, self.rules, idempotency_key=idempotency_key, job_id=job_id or None)
        # The app itself, not its proxy: receivers are looked up by what the sender is.
        sender = flask_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        job_accepted.send(sender, job=job, visitor=visitor, wish=dict(wish))
        return job
