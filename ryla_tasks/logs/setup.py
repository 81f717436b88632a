"""Which processes write lines in our formats: workers of our own app, our other services, and hosts that ask for it."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import Celery, signals

from ryla_tasks.settings import Settings, get_settings

__all__ = ["CONSOLE", "use_format", "wire"]

#: A worker's threads tell more than its process's name, which is the same in all lines.
CONSOLE = "%(asctime)s %(levelname)s %(name)s %(threadName)s: %(message)s"

#: Libraries that write paths, queries and headers of their calls at DEBUG: presigned URLs and tokens among them.
_TALKATIVE = ("urllib3", "botocore", "boto3", "s3transfer")

_own: list[Celery] = []
_wanted = False


def use_format(settings: Settings | None = None, *, level: str = "") -> None:
    """Have this process log to standard error as the settings say. For services of ours that are no Celery worker, and
    for programs that want the same; a host that has handlers of its own does not call this."""
    settings = settings or get_settings()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings.log_format, ""))
    logging.basicConfig(level=level or settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    _hush()


def wire(app: Celery) -> None:
    """Have the workers of this app log in our formats. A worker of another app does so only where `log_format` is set;
    one whose logging is set up by somebody else (Celery's signal `setup_logging`) never does."""
    _own.append(app)


@signals.celeryd_init.connect(weak=False)
def _on_init(instance: Any = None, **_more: Any) -> None:
    """A worker begins; Celery sets up its logging right after this."""
    global _wanted
    settings = get_settings()
    _wanted = any(instance.app is one for one in _own) or "log_format" in settings.model_fields_set
    if _wanted and settings.log_format == "json":
        # Its banner is no JSON, and neither is a warning from before it has set up its logging.
        instance.quiet = True
        use_format(settings)


@signals.after_setup_logger.connect(weak=False)
@signals.after_setup_task_logger.connect(weak=False)
def _on_logger(logger: logging.Logger, format: str = "", colorize: Any = None, **_more: Any) -> None:  # noqa: A002
    """Celery has given a logger its handler."""
    if not _wanted:
        return
    _hush()
    for handler in logger.handlers:
        handler.setFormatter(_formatter(get_settings().log_format, format, colorize=bool(colorize)))


def _hush() -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)


def _formatter(name: str, console: str, *, colorize: bool = False) -> logging.Formatter:
    from ryla_tasks.logs.formats import ConsoleLines, JsonLines

    return JsonLines() if name == "json" else ConsoleLines(console or CONSOLE, use_color=colorize)
