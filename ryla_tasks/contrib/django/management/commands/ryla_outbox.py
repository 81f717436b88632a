"""`manage.py ryla_outbox`: enqueue the jobs of rows that were committed without one."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import close_old_connections

from ryla_tasks.contrib.django.outbox import enqueue_missing, summary
from ryla_tasks.errors import ConfigurationError, StoreError

__all__ = ["Command"]


class Command(BaseCommand):
    """Goes through what `RYLA_WEB["OUTBOX"]` yields. Exit code 1 where a row can get no job, or Redis is away."""

    help = "Enqueue jobs whose transaction has committed and that Redis has not got. Harmless at any time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--every", type=float, metavar="SECONDS", help="Do so again and again, until stopped.")

    def handle(self, *_args: Any, every: float | None, **_options: Any) -> None:
        """Once, or for ever."""
        while True:
            try:
                problems = self._round()
            except ConfigurationError as error:
                raise CommandError(str(error)) from error
            if every is None:
                if problems:
                    raise CommandError(problems)
                return
            close_old_connections()
            time.sleep(every)

    def _round(self) -> str:
        """Go through all once; what is wrong, for the operator."""
        done = []
        try:
            for outcome in enqueue_missing():
                done.append(outcome)
                if outcome.problem:
                    self.stderr.write(f"{outcome.job_id}: {outcome.word}: {outcome.problem}")
        except StoreError as error:
            self.stderr.write(f"Redis: {error}")
            return "Redis cannot be reached; what is left waits for the next time"
        self.stdout.write(summary(done))
        stuck = sum(bool(outcome.problem) for outcome in done)
        return f"{stuck} can get no job" if stuck else ""
