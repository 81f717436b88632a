"""A simulator in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from .client import SimulatorClient
from .config import SimulatorConfig
from .programs import Program
from .server import Simulator

__all__ = ["RunningSimulator"]

_STOP_S = 30.0


class RunningSimulator(SimulatorClient):
    """Starts a simulator in a daemon thread with an event loop of its own, and talks to it over HTTP.

        with RunningSimulator(SimulatorConfig(endpoints=(EndpointConfig(endpoint_id="ep"),))) as sim:
            sim.base_url, sim.key, sim.endpoint("ep").counters()

    Raises `ConfigurationError` if it cannot start.
    """

    def __init__(self, config: SimulatorConfig, programs: Mapping[str, Program] | None = None) -> None:
        self._simulator = Simulator(config, programs)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ryla-simulator", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        super().__init__(self._simulator.url, key=config.keys[0])

    def now(self) -> float:
        """Simulated seconds since the start."""
        return self._simulator.clock.now()

    def stop(self) -> None:
        """Stop the server and its thread; safe to repeat."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self._simulator.start()
        except Exception as error:  # raised again in the thread that waits for the start
            self._failure = error
            return
        finally:
            self._started.set()
        await self._stopping.wait()
        await self._simulator.stop()
