"""A whole system on this machine: Redis, a simulated RunPod, and the settings that point processes at them."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ryla_tasks.embedded.ports import HOST, free_port, is_free
from ryla_tasks.errors import RylaError

__all__ = [
    "SIMULATOR_KEY",
    "LocalRunPod",
    "celery_command",
    "environment_file",
    "local_settings",
    "port_or_free",
    "wait_for_port",
    "without_settings",
]

#: The only key that the simulated RunPod takes. No secret: it listens on the loopback address alone.
SIMULATOR_KEY = "simulated-key"

#: What a second of the simulated GPU costs, so that jobs have a cost estimate (an RTX 4090's price).
_PRICE_PER_S = 0.00031

#: Settings that say where jobs go; a local system has its own.
_PLACES = ("RYLA_ENDPOINT_", "RYLA_ENDPOINTS", "RYLA_ACCOUNT", "RYLA_BROKER_URL", "RYLA_SENTINEL_MASTER", "RYLA_RUNPOD")


#: What the simulated GPU workers of an endpoint run, by its name.
_PROGRAMS = {"image": "image", "special": "image", "lora": "lora"}


class LocalRunPod:
    """A simulated RunPod as a child process: how to start it, and where it answers then.

    `endpoints` are names in the settings and ids at the simulator at once. `image` and `special` paint pictures, `lora`
    trains in no time, the others answer with their input. `options` are settings of each endpoint (see
    `ryla_tasks.simulator.EndpointConfig`).
    """

    def __init__(
        self,
        folder: Path,
        endpoints: Iterable[str],
        *,
        port: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.endpoints = tuple(endpoints)
        self._file = folder / "simulator.json"
        self._options = dict(options or {})

    @property
    def url(self) -> str:
        """The address of RunPod's API there."""
        return f"http://{HOST}:{self.port}/v2"

    @property
    def command(self) -> list[str]:
        """Write the configuration, and return the command that runs it."""
        endpoints = [
            {"endpoint_id": name, "program": _PROGRAMS.get(name, "echo"), **self._options} for name in self.endpoints
        ]
        self._file.write_text(json.dumps({"keys": [SIMULATOR_KEY], "endpoints": endpoints}))
        module = [sys.executable, "-m", "ryla_tasks.cli", "simulate"]
        return [*module, "--config", str(self._file), "--port", str(self.port)]


def local_settings(redis_url: str, runpod: LocalRunPod, artifacts: Path, **endpoint: Any) -> dict[str, str]:
    """The environment variables that make a process use a local system. `endpoint` are settings of each endpoint."""
    endpoints = {
        name: {"endpoint_id": name, "gpu": "simulated", "price_per_s": _PRICE_PER_S, **endpoint}
        for name in runpod.endpoints
    }
    return {
        "RYLA_REDIS_URL": redis_url,
        "RYLA_RUNPOD_URL": runpod.url,
        "RUNPOD_API_KEY": SIMULATOR_KEY,
        "RYLA_ENDPOINTS": json.dumps(endpoints, separators=(",", ":")),
        "RYLA_ARTIFACTS": artifacts.absolute().as_uri(),
    }


def without_settings(environment: Mapping[str, str], *, places_only: bool = False) -> dict[str, str]:
    """An environment without our settings, or without those alone that say where jobs go.

    What only steers the command line stays.
    """
    unwanted = _PLACES if places_only else ("RYLA_", "RUNPOD_API_KEY")
    stay = ("RYLA_DEBUG", "RYLA_REDIS_SERVER")
    return {name: value for name, value in environment.items() if name in stay or not name.startswith(unwanted)}


def celery_command(app: str, *arguments: str) -> list[str]:
    """A command of Celery's, run by this Python."""
    return [sys.executable, "-m", "celery", "-A", app, *arguments]


def port_or_free(wanted: int | None, usual: int) -> int:
    """The port that was asked for, else the usual one if nobody has it, else any."""
    if wanted:
        return wanted
    return usual if is_free(usual) else free_port()


def wait_for_port(port: int, what: str, *, alive: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Wait until a server of ours answers on a port. Raises `RylaError` when it ends or takes too long."""
    end = time.monotonic() + patience_s
    while alive() and time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise RylaError(f"{what} {'did not start in time' if alive() else 'has ended while starting'}")


def environment_file(settings: Mapping[str, str]) -> str:
    """Settings as a file that a shell and a .env reader take alike."""
    return "".join(f"{name}='{value}'\n" for name, value in settings.items())
