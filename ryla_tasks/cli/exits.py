"""How a command ends: exit codes that a script can use, and one clear line for each error."""

from __future__ import annotations

import os
import traceback
from enum import IntEnum
from typing import IO, Any

import click

from ryla_tasks.errors import (
    ConfigurationError,
    EndpointNotFound,
    FatalError,
    InvalidJob,
    JobError,
    JobNotFound,
    ProviderError,
    RylaError,
    StoreError,
    WaitTimeout,
)

__all__ = ["DEBUG_VARIABLE", "EXIT_CODES", "Exit", "Failure", "exit_code", "failure"]

DEBUG_VARIABLE = "RYLA_DEBUG"


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    TIMED_OUT = 6
    INTERRUPTED = 130


EXIT_CODES: dict[Exit, str] = {
    Exit.OK: "it worked; of a job: it has a result",
    Exit.FAILED: "the job, or what the command is for, ended without a result",
    Exit.USAGE: "the command line or the job's input is wrong",
    Exit.CONFIGURATION: "a setting, an API key, an endpoint id or an extra is missing or wrong",
    Exit.NOT_FOUND: "there is no such job",
    Exit.UNREACHABLE: "Redis or RunPod does not answer",
    Exit.TIMED_OUT: "the time to wait is over; the job goes on",
    Exit.INTERRUPTED: "stopped by Ctrl-C",
}

#: The first that fits counts.
_CODES: tuple[tuple[tuple[type[BaseException], ...], Exit], ...] = (
    ((ConfigurationError, FatalError, EndpointNotFound, ImportError), Exit.CONFIGURATION),
    ((InvalidJob,), Exit.USAGE),
    ((JobNotFound,), Exit.NOT_FOUND),
    ((WaitTimeout,), Exit.TIMED_OUT),
    ((JobError,), Exit.FAILED),
    ((StoreError, ProviderError), Exit.UNREACHABLE),
    ((RylaError,), Exit.FAILED),
)


class Failure(click.ClickException):
    """Ends a command: shown as one line on standard error, then the exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it from the error, whatever its stubs say

    def show(self, file: IO[Any] | None = None) -> None:
        if os.environ.get(DEBUG_VARIABLE) and self.__cause__ is not None:
            traceback.print_exception(self.__cause__)
        super().show(file)


def failure(error: BaseException) -> Failure | None:
    """What to end with for an error; None for one that is a bug, which shows its traceback."""
    if isinstance(error, click.ClickException):
        # A command that stands alone reports its errors in click's way; what they come from has a code of ours.
        code = exit_code(error.__cause__) if error.__cause__ is not None else None
        return None if code is None else Failure(error.message, code)
    code = exit_code(error)
    return None if code is None else Failure(_line(error), code)


def exit_code(error: BaseException) -> Exit | None:
    """The exit code for an error, None for an unexpected one."""
    for types, code in _CODES:
        if isinstance(error, types):
            return code
    return Exit.UNREACHABLE if _is_connection_error(error) else None


def _is_connection_error(error: BaseException) -> bool:
    """Celery's own publishing and Flower's client raise these two; importing them just for --help would be slow."""
    import sys

    kinds = [
        getattr(sys.modules.get(module), name, None)
        for module, name in (("redis.exceptions", "RedisError"), ("kombu.exceptions", "OperationalError"))
    ]
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))


def _line(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return "\n  ".join(line.strip() for line in text.splitlines() if line.strip())
