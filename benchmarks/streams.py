"""Pages that watch jobs, in one process with asyncio: our streams, against a blocking XREAD for each page.

Jobs get events at a steady rate from outside; each watcher gets those of its job. The delay of an event is from the
moment that Redis wrote it (its position says so, in whole milliseconds) until the watcher has its bytes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.report import Measure, Part, percentile
from benchmarks.system import OURS, PLAIN, ROOT, System

__all__ = ["measure_streams"]

#: Each job gets an event this often, as one that runs does.
EVERY_S = 1.0


def measure_streams(system: System, *, quick: bool) -> list[Part]:
    """Some hundred pages, ten to a job."""
    watchers, seconds = (200, 5) if quick else (500, 15)
    system.clear(jobs=1, steps=1)
    ours, plain = (_side(system, side, watchers, seconds) for side in (OURS, PLAIN))
    measures = (
        Measure("connections to Redis", "count", ours["connections"], plain["connections"]),
        Measure("commands to Redis per event and page", "count", ours["commands"], plain["commands"]),
        Measure("CPU time per event and page", "ms", ours["cpu_ms"], plain["cpu_ms"]),
        Measure("from event to page, p50", "ms", ours["p50_ms"], plain["p50_ms"]),
        Measure("from event to page, p95", "ms", ours["p95_ms"], plain["p95_ms"]),
    )
    about = f"{watchers} pages watch {watchers // 10} jobs, one process, asyncio; plain is XREAD BLOCK for each page"
    return [Part("streams", about, measures, details={"ours": ours, "plain": plain})]


def _side(system: System, side: str, watchers: int, seconds: int) -> dict[str, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.streams", side, str(watchers), str(seconds)],
        cwd=ROOT, env=system.environment(), check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


class Events:
    """Adds an event to each job's stream, again and again, from a thread."""

    def __init__(self, client: Any, jobs: list[str]) -> None:
        self._client = client
        self._jobs = jobs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        event = json.dumps({"type": "progress", "phase": "running", "percent": 50.0, "message": "step", "eta_s": 5.0})
        pause = EVERY_S / len(self._jobs)
        while True:
            for job_id in self._jobs:
                self._client.xadd(f"ryla:events:{job_id}", {"e": event}, maxlen=500)
                if self._stopping.wait(pause):
                    return


async def _plain(client: Any, job_id: str) -> AsyncIterator[bytes]:
    after: Any = "0"
    while True:
        answer = await client.xread({f"ryla:events:{job_id}": after}, block=2000)
        for position, fields in next(iter(answer.values()))[0] if answer else ():
            after = position
            yield b"id: " + position + b"\ndata: " + fields[b"e"] + b"\n\n"


async def _watch(pages: AsyncIterator[bytes], delays: list[float]) -> None:
    async for chunk in pages:
        now = time.time()
        ids = [line[4:] for line in chunk.splitlines() if line.startswith(b"id: ")]
        delays += [now - int(one.split(b"-")[0]) / 1000 for one in ids]


async def _all(side: str, jobs: list[str], watchers: int, seconds: int, client: Any) -> dict[str, Any]:
    import redis.asyncio

    from ryla_tasks import Job, get_settings
    from ryla_tasks.contrib.web import afollow

    delays: list[float] = []
    their = redis.asyncio.Redis.from_url(get_settings().redis_url, protocol=3, max_connections=10_000)
    pages = [afollow(Job(job), "0") if side == OURS else _plain(their, job) for job in (jobs * watchers)[:watchers]]
    tasks = [asyncio.create_task(_watch(page, delays)) for page in pages]
    await asyncio.sleep(2)  # all are there, and have read what there was
    events = Events(client, jobs)
    await asyncio.to_thread(events.start)
    await asyncio.sleep(1)
    delays.clear()
    began, cpu = time.monotonic(), time.process_time()
    commands = client.info("stats")["total_commands_processed"]
    await asyncio.sleep(seconds)
    cpu, commands = time.process_time() - cpu, client.info("stats")["total_commands_processed"] - commands
    connections = len(client.client_list())
    await asyncio.to_thread(events.stop)
    waiting = set(tasks)
    while waiting:
        # redis-py's asyncio client now and then takes a cancel for itself, and reads on.
        for task in waiting:
            task.cancel()
        _done, waiting = await asyncio.wait(waiting, timeout=1)
    await their.aclose()
    written = len(jobs) * (time.monotonic() - began) / EVERY_S
    return {
        "connections": connections,
        "commands": max(0.0, commands - written) / len(delays),
        "cpu_ms": 1000 * cpu / len(delays),
        "p50_ms": 1000 * percentile(delays, 50),
        "p95_ms": 1000 * percentile(delays, 95),
        "events": len(delays),
    }


def main(side: str, watchers: int, seconds: int) -> None:
    """Watch, and print what it took. The events are written by this process too, alike on both sides."""
    import redis

    from ryla_tasks import get_settings, run_endpoint

    jobs = [run_endpoint.delay("bench", {"n": number}).id for number in range(watchers // 10)]
    client: Any = redis.Redis.from_url(get_settings().redis_url)
    json.dump(asyncio.run(_all(side, jobs, watchers, seconds, client)), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
