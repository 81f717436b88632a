"""A simulator in a process of its own, so that its CPU time is nobody else's: run with its configuration as JSON.

Prints one line of JSON when it listens: its address, and the monotonic time (one for the whole machine) at which its
clock began, which turns its times into ours.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from ryla_tasks.simulator import Simulator, SimulatorConfig


async def serve(config: str) -> None:
    simulator = Simulator(SimulatorConfig.model_validate_json(config))
    await simulator.start()
    origin = time.monotonic() - simulator.clock.now()
    print(json.dumps({"url": simulator.url, "origin": origin}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
