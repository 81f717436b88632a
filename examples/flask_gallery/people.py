"""Who is signed in. A name is enough here, and whoever gives it has its pictures: a demonstration, no protection."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

__all__ = ["blueprint", "who_asks"]

blueprint = Blueprint("people", __name__)

_LONGEST = 40


def who_asks() -> str | None:
    """The user's id, or None for a stranger: what Ryla asks at every request."""
    name: str | None = session.get("name")
    return name


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> str | Response:
    problem = ""
    if request.method == "POST":
        name = " ".join(request.form.get("name", "").split())
        if 0 < len(name) <= _LONGEST:
            session.clear()
            session["name"] = name
            return redirect(url_for("pages.gallery"))
        problem = "Please give a name." if not name else f"Please give a name of at most {_LONGEST} letters."
    return render_template("sign_in.html", problem=problem)


@blueprint.post("/sign-out")
def sign_out() -> Response:
    session.clear()
    return redirect(url_for("people.sign_in"))
