"""A gallery of pictures that a GPU makes: a small Flask app to read, to run, and to begin one's own with.

    ryla dev                                            # runs it, with all that it needs around it

or by hand, from the root of the repository:

    flask --app examples.flask_gallery:create_app run
    flask --app examples.flask_gallery:create_app ryla-worker

people.py    who is signed in: by a name alone, which is for a demonstration
album.py     what the gallery keeps of each job, in a SQLite file of its own
pages.py     the pages; what happens in them is static/gallery.js
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from flask import Flask, Response

from examples.flask_gallery import album, pages, people
from ryla_tasks.contrib.flask import Rules, Ryla

__all__ = ["create_app"]

_TASKS = {"generate_image": "ryla.generate_image", "train_lora": "ryla.train_lora"}

#: Nothing from anywhere else; `https:` is for pictures that a bucket serves.
_POLICY = "default-src 'self'; img-src 'self' blob: https:; frame-ancestors 'none'; base-uri 'none'"

ryla = Ryla(visitor=people.who_asks, rules=Rules(tasks=_TASKS))


def create_app() -> Flask:
    """The app. `GALLERY_DATABASE` names its SQLite file, `GALLERY_SECRET_KEY` what its sessions are signed with."""
    app = Flask(__name__)
    app.config["DATABASE"] = str(Path(app.instance_path) / "gallery.sqlite")
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True)
    app.config.from_prefixed_env("GALLERY")
    Path(app.config["DATABASE"]).parent.mkdir(parents=True, exist_ok=True)
    app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or _kept_key(Path(app.config["DATABASE"]).with_suffix(".key"))
    ryla.init_app(app)
    album.init_app(app)
    app.register_blueprint(people.blueprint)
    app.register_blueprint(pages.blueprint)

    @app.after_request
    def secure(answer: Response) -> Response:
        answer.headers.setdefault("Content-Security-Policy", _POLICY)
        return answer

    return app


def _kept_key(file: Path) -> str:
    """A key that is made once, so that everybody stays signed in over a restart, and in all processes."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    return file.read_text()
