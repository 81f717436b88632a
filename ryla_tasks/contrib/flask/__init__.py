"""Jobs in a Flask app: routes for its pages, a signal when a job has ended, and `flask ryla-worker`.

    ryla = Ryla(app, visitor=lambda: session.get("user_id"))

extension.py  what an app makes and configures
views.py      the routes under /ryla
guard.py      what is refused before a view runs: other sites' requests, large bodies
answers.py    errors and files as responses
signals.py    job_accepted and job_ended
commands.py   flask ryla-worker, flask ryla

docs/flask.md tells how to use it.
"""

from __future__ import annotations

try:
    import flask  # noqa: F401 - to say what is missing
except ImportError as error:
    raise ImportError("ryla_tasks.contrib.flask needs Flask: pip install 'ryla-tasks[flask]'") from error

from ryla_tasks.contrib.flask.answers import error_answer
from ryla_tasks.contrib.flask.extension import Ryla
from ryla_tasks.contrib.flask.signals import job_accepted, job_ended
from ryla_tasks.contrib.web import Rules, Visitor

__all__ = ["Rules", "Ryla", "Visitor", "error_answer", "job_accepted", "job_ended"]
