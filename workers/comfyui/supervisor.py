"""The ComfyUI process: started, watched, and started anew when it dies. While it is not ready no job is taken."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

__all__ = ["State", "Supervisor"]

log = logging.getLogger(__name__)

_LOOK_S = 0.2
_ANSWER_S = 5.0


class State(StrEnum):
    """Where ComfyUI stands."""

    STARTING = "starting"
    READY = "ready"
    GIVEN_UP = "given up"
    STOPPED = "stopped"


class Supervisor:
    """Keeps a ComfyUI running, from a thread of its own, so that a busy event loop is no reason to overlook its death.

    Without a command it only asks whether ComfyUI answers. It gives up after `most_restarts` deaths without a job done
    in between, and calls `on_given_up`.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        url: str,
        *,
        folder: Path | None = None,
        start_s: float = 600.0,
        most_restarts: int = 2,
        on_given_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._command = command
        self._url = url
        self._folder = folder
        self._start_s = start_s
        self._most_restarts = most_restarts
        self._on_given_up = on_given_up
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="comfyui-supervisor", daemon=True)
        self._deaths = 0
        self._state = State.STARTING
        #: Counts the processes. What was begun under one generation is lost in the next.
        self.generation = 0

    @property
    def state(self) -> State:
        """Where ComfyUI stands right now. A process that has just died counts at once."""
        if self._state is State.READY and self._process is not None and self._process.poll() is not None:
            return State.STARTING
        return self._state

    @property
    def owns(self) -> bool:
        """Whether ComfyUI is a process of ours, or only one that is asked."""
        return bool(self._command)

    @property
    def pid(self) -> int | None:
        """Of the process under way."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start ComfyUI, and return at once."""
        self._thread.start()

    def stop(self) -> None:
        """End ComfyUI and the watch over it."""
        self._stopping.set()
        self._end(signal.SIGTERM)
        self._thread.join(15)
        self._end(signal.SIGKILL)

    def served(self) -> None:
        """A job was done: earlier deaths count no more."""
        self._deaths = 0

    def restart(self) -> None:
        """Kill a ComfyUI that hangs; it is started anew, and this counts as a death."""
        log.error("ComfyUI hangs, and is killed")
        self._end(signal.SIGKILL)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._launch()
            if self._becomes_ready():
                log.info("ComfyUI is ready")
                self._state = State.READY
                self._watch()
            self._end(signal.SIGKILL)
            if self._stopping.is_set():
                break
            self._deaths += 1
            if self._deaths > self._most_restarts:
                log.error("ComfyUI died %d times without a job done; giving up", self._deaths)
                self._state = State.GIVEN_UP
                self._on_given_up()
                return
            log.error("ComfyUI died, and is started anew (%d of %d)", self._deaths, self._most_restarts)
            self._state = State.STARTING
            self._stopping.wait(min(self._deaths, 5) * 0.2)
        self._state = State.STOPPED

    def _launch(self) -> None:
        self._state = State.STARTING
        self.generation += 1
        if self._command:
            # A session of its own, so that what its nodes start ends with it.
            self._process = subprocess.Popen(self._command, cwd=self._folder, start_new_session=True)  # noqa: S603

    def _becomes_ready(self) -> bool:
        deadline = time.monotonic() + self._start_s
        while not self._stopping.is_set() and self._runs():
            if self._answers():
                return True
            if time.monotonic() > deadline:
                log.error("ComfyUI does not answer %.0f s after its start", self._start_s)
                return False
            self._stopping.wait(_LOOK_S)
        return False

    def _watch(self) -> None:
        if self._process is None:
            self._stopping.wait()
            return
        while not self._stopping.is_set() and self._runs():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_S)

    def _runs(self) -> bool:
        return self._process is None or self._process.poll() is None

    def _answers(self) -> bool:
        # No proxy: ComfyUI is on this machine, whatever the environment says of the world outside.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self._url}/system_stats", timeout=_ANSWER_S) as answer:
                stats = json.load(answer)
        except (OSError, ValueError):
            return False
        log.info("ComfyUI answers: %s", json.dumps(stats)[:2_000])
        return True

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, how)
