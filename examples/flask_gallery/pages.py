"""The gallery's pages. Jobs are sent, watched and cancelled by the script in them, at the routes of Ryla."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, redirect, render_template, url_for
from werkzeug.wrappers import Response

from examples.flask_gallery import album
from examples.flask_gallery.people import who_asks

__all__ = ["blueprint"]

blueprint = Blueprint("pages", __name__)

_TEMPLATES = {"z-image-turbo": "Z-Image Turbo, quick", "flux-dev": "FLUX.1 dev, detailed", "sdxl": "SDXL"}
_SIZES = {"768x768": "Square", "640x896": "Portrait", "896x640": "Landscape"}
_BASE_MODELS = {"flux": "FLUX.1 dev", "sdxl": "SDXL", "z-image": "Z-Image Turbo"}


@blueprint.get("/")
def gallery() -> str | Response:
    return _page("gallery.html", "generate_image", templates=_TEMPLATES, sizes=_SIZES)


@blueprint.get("/training")
def training() -> str | Response:
    return _page("training.html", "train_lora", base_models=_BASE_MODELS)


@blueprint.post("/remove/<job_id>")
def remove(job_id: str) -> tuple[str, int]:
    """Take what has failed out of the page."""
    owner = who_asks()
    if owner is None:
        abort(401)
    return ("", 204) if album.remove(owner, job_id) else ("", 404)


def _page(name: str, task: str, **more: Any) -> str | Response:
    owner = who_asks()
    if owner is None:
        return redirect(url_for("people.sign_in"))
    rows = album.rows_of(owner, task)
    for row in rows:
        row["urls"] = [url_for("ryla.job_file", job_id=row["job_id"], number=n) for n in range(row["files"])]
    return render_template(name, rows=rows, cost=album.cost_of(owner), name=owner, **more)
