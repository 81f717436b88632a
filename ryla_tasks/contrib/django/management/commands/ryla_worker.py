"""`manage.py ryla_worker`: a Celery worker that has the project, so that receivers of `job_ended` are called in it."""

from __future__ import annotations

import atexit
import subprocess
import sys

from django.core.checks import run_checks
from django.core.management.base import BaseCommand
from django.utils.autoreload import run_with_reloader

from ryla_tasks.contrib.django.checks import TAG
from ryla_tasks.contrib.django.management.commands.ryla import run_ryla, without_django_options

__all__ = ["Command"]

_AUTORELOAD = "--autoreload"
_STOP_S = 30.0


class Command(BaseCommand):
    """Its options are those of `ryla worker`, and `--autoreload`, which starts it again when the code changes."""

    help = "Run a Celery worker for jobs with this project in it. Options are those of `ryla worker`, and --autoreload."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Take the arguments as they are."""
        arguments = without_django_options(argv[2:])
        if _AUTORELOAD not in arguments:
            self._check()
            run_ryla(["worker", *arguments])
            return
        arguments.remove(_AUTORELOAD)
        command = [sys.executable, argv[0], "ryla", "worker", "--no-supervise", *arguments]
        run_with_reloader(self._serve, command)

    def _check(self) -> None:
        """A worker that could not do what it is for does not start."""
        errors = [found for found in run_checks(tags=[TAG]) if found.is_serious() and not found.is_silenced()]
        if errors:
            text = "\n".join(str(found) for found in errors)
            self.stderr.write(self.style.ERROR(f"The worker does not start:\n{text}"))
            raise SystemExit(1)

    def _serve(self, command: list[str]) -> None:
        """Run the worker until this process, which watches the code, ends; then let it finish its steps."""
        self._check()
        child = subprocess.Popen(command)  # noqa: S603 - this very program
        atexit.register(_stop, child)
        child.wait()


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
