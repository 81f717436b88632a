"""The host's app with ryla_tasks installed into it, and a GPU job of the host's own."""

from __future__ import annotations

from typing import Any

from ryla_tasks import ServerlessTask, install
from tests.support.host_project.own_app import app

__all__ = ["app", "echo"]

install(app)


@app.task(name="host.echo", base=ServerlessTask, endpoint="echo")
def echo(previous: Any = None, **job_input: Any) -> dict[str, Any]:
    """A job on an endpoint, with the host's own name."""
    return {**job_input, "previous": previous}
