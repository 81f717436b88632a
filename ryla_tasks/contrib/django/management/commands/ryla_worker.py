"""`manage.py ryla_worker`: a Celery worker that has the project, so that receivers of `job_ended` are called in it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from django.core.checks import run_checks
from django.core.management.base import BaseCommand
from django.utils.autoreload import iter_all_python_module_files

from ryla_tasks.contrib.django.checks import TAG
from ryla_tasks.contrib.django.management.commands.ryla import run_ryla, show_the_way, without_django_options

__all__ = ["Command"]

_AUTORELOAD = "--autoreload"
_LOOK_S = 0.5
_STOP_S = 30.0


class Command(BaseCommand):
    """Its options are those of `ryla worker`, and `--autoreload`, which starts it again when the code changes."""

    help = "Run a Celery worker for jobs with this project in it. Options are those of `ryla worker`, and --autoreload."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Take the arguments as they are."""
        arguments = without_django_options(argv[2:])
        self._check()
        if _AUTORELOAD not in arguments:
            run_ryla(["worker", *arguments])
            return
        arguments.remove(_AUTORELOAD)
        show_the_way()
        self._reload([sys.executable, "-m", "django", "ryla", "worker", "--no-supervise", *arguments])

    def _check(self) -> None:
        """A worker that could not do what it is for does not start."""
        errors = [found for found in run_checks(tags=[TAG]) if found.is_serious() and not found.is_silenced()]
        if errors:
            text = "\n".join(str(found) for found in errors)
            self.stderr.write(self.style.ERROR(f"The worker does not start:\n{text}"))
            raise SystemExit(1)

    def _reload(self, command: list[str]) -> None:
        """Run the worker, and run it again whenever a file of the project has changed.

        Django's own reloader would not do: told to end, it kills its child, and a worker is to finish its steps.
        """
        signal.signal(signal.SIGTERM, _end)
        folders = _folders()
        while True:
            seen = _files(folders)
            child = subprocess.Popen(command)  # noqa: S603 - this very program
            try:
                while _files(folders) == seen:
                    time.sleep(_LOOK_S)
                self.stdout.write("The code has changed: starting again.")
            except KeyboardInterrupt:
                return
            finally:
                _stop(child)


def _end(*_signal: Any) -> NoReturn:
    raise SystemExit(0)


def _folders() -> set[Path]:
    """Where the project's own modules are; what is installed does not change."""
    modules = (Path(str(file)) for file in iter_all_python_module_files())
    return {path.parent for path in modules if "site-packages" not in path.parts and sys.base_prefix not in str(path)}


def _files(folders: set[Path]) -> dict[Path, float]:
    """The modules there, and when they were last changed."""
    found = {}
    for path in (path for folder in folders for path in folder.glob("*.py")):
        try:
            found[path] = path.stat().st_mtime
        except OSError:
            continue  # gone meanwhile, or a link to nowhere
    return found


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
