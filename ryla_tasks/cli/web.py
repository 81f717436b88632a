"""The web app that `ryla dev` runs: how it is found, and how it and a worker that has it are started."""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ryla_tasks

__all__ = ["FlaskApp", "example_app"]

_EXAMPLE = "examples.flask_gallery:create_app"


@dataclass(frozen=True, slots=True)
class FlaskApp:
    """A Flask app by its import path (`module:app` or `module:create_app`), and what its processes need besides."""

    path: str
    port: int
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def command(self) -> list[str]:
        """Serves it with threads, so that streams of events hold nobody else."""
        return [*self._flask, "run", "--host", "127.0.0.1", "--port", str(self.port), "--with-threads"]

    def worker_command(self, *arguments: str) -> list[str]:
        """A Celery worker that has it, with arguments of `flask ryla-worker`."""
        return [*self._flask, "ryla-worker", "--no-supervise", *arguments]

    @property
    def settings(self) -> dict[str, str]:
        """What lets simulated GPU workers have uploads: the app serves them, by URLs that are signed anew each run."""
        return {"RYLA_ARTIFACTS_URL": f"{self.url}/ryla/shared", "RYLA_WEBHOOK_SECRET": secrets.token_urlsafe(32)}

    @property
    def _flask(self) -> list[str]:
        return [sys.executable, "-m", "flask", "--app", self.path]


def example_app(port: int, data: Path) -> FlaskApp | None:
    """The gallery of this repository's examples; None where they are not at hand, as with an installed wheel, or where
    Flask is not installed. What it keeps goes into the folder `data`."""
    root = Path(ryla_tasks.__file__).parents[1]
    if not (root / "examples" / "flask_gallery").is_dir() or importlib.util.find_spec("flask") is None:
        return None
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
    return FlaskApp(_EXAMPLE, port, {"PYTHONPATH": path, "GALLERY_DATABASE": str(data / "gallery.sqlite")})
