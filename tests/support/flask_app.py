"""A Flask app for tests: who asks is said by the header `X-User`; staff sees all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flask import Flask, request

from ryla_tasks.contrib.flask import Rules, Ryla, Visitor, job_accepted, job_ended

__all__ = ["create_app"]


def who() -> Visitor | str | None:
    name = request.headers.get("X-User")
    return Visitor(name, sees_all=True) if name == "staff" else name


def create_app(rules: Rules | None = None) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="a key for tests", TESTING=True)
    app.config.from_prefixed_env("TESTAPP")
    Ryla(app, visitor=who, rules=rules or Rules(most_body=100_000, most_upload=50_000), origins=("https://friend",))

    @app.get("/ping")
    def ping() -> str:
        return "pong"

    def note(name: str, job_id: str, **more: Any) -> None:
        if file := os.environ.get("HEARD"):
            with Path(file).open("a") as notes:
                notes.write(json.dumps({"signal": name, "app": app.name, "job": job_id, **more}) + "\n")

    @job_accepted.connect_via(app, weak=False)
    def accepted(_app: Flask, *, job: Any, visitor: Visitor, wish: dict[str, Any], **_: Any) -> None:
        note("accepted", job.id, user=visitor.user_id, task=wish["task"])

    @job_ended.connect_via(app, weak=False)
    def ended(_app: Flask, *, job: Any, record: Any, **_: Any) -> None:
        from flask import current_app

        note("ended", job.id, state=str(record.state), context=current_app.name)

    return app
