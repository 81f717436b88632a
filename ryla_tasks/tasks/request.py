"""What a worker tells of a job's arguments: nothing, where their sender did not see to that."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

from ryla_tasks.settings import get_settings
from ryla_tasks.tasks.envelope import HEADER

__all__ = ["JobRequest"]


class JobRequest(Request):
    """Celery's request. A message from an app without this package brings its arguments in clear, and Celery would show
    them in events, in Flower and in logs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if HEADER not in self.request_dict and not get_settings().show_arguments:
            self._argsrepr = self._kwargsrepr = "(hidden)"
