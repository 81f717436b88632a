"""The real handler, before a stand-in ComfyUI in a process of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.comfyui.process import command
from workers.comfyui.handler import Worker
from workers.comfyui.settings import Settings
from workers.comfyui.supervisor import State, Supervisor

DATA = Path(__file__).parents[2] / "data/comfyui"


def workflow(**changes: dict[str, Any]) -> dict[str, Any]:
    """EmptyImage -> ImageScale -> SlowSteps (6 steps) -> SaveImage, with inputs of nodes changed: `_3={"seed": 2}`."""
    (entry,) = json.loads((DATA / "success.json").read_text())[-1]["body"].values()
    nodes: dict[str, Any] = entry["prompt"][2]
    nodes["3"]["inputs"]["delay"] = 0.02
    for name, inputs in changes.items():
        nodes[name[1:]]["inputs"].update(inputs)
    return nodes


def free_url() -> str:
    """An address on this machine at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@dataclass
class Bench:
    """A worker in a test. `sent` are its progress updates."""

    worker: Worker
    base: Path
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def do(self, job_input: Any, job_id: str = "r-1", **job: Any) -> dict[str, Any]:
        return await self.worker.handle({"id": job_id, "input": job_input, **job})

    def left(self) -> list[str]:
        """Files that jobs have left behind in ComfyUI's folders."""
        return [
            str(path.relative_to(self.base)) for kind in ("input", "output") for path in (self.base / kind).rglob("*")
        ]


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until a condition holds; give what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to that")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


@contextmanager
def bench(base: Path, url: str, *arguments: str, owned: bool = False, **options: Any) -> Iterator[Bench]:
    """A worker before a ComfyUI at this address. `owned`: the worker starts and restarts it."""
    settings = replace(
        Settings(url=url, folder=base, volume=base / "volume", progress_s=0.05), **_for_settings(options)
    )
    port = url.rpartition(":")[2]
    starts = command(base, "--port", port, *arguments) if owned else []
    supervisor = Supervisor(
        tuple(starts), url, folder=Path(__file__).parents[3] if owned else None, most_restarts=settings.most_restarts
    )
    sent: list[dict[str, Any]] = []

    def sender(_job: dict[str, Any]) -> Any:
        async def send(update: dict[str, Any]) -> None:
            sent.append(update)

        return send

    made = Bench(
        Worker(settings, supervisor, sender=sender, store=options.get("store"), detector=options.get("detector")), base
    )
    made.sent = sent
    supervisor.start()
    try:
        deadline = time.monotonic() + 20
        while supervisor.state is not State.READY:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield made
    finally:
        supervisor.stop()


def _for_settings(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("store", "detector")}


@asynccontextmanager
async def under_way(made: Bench, job_input: Any, url: str, **job: Any) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
    """A job that ComfyUI has begun to step through."""
    task = asyncio.create_task(made.do(job_input, **job))
    try:
        await until(lambda: any(update.get("step") for update in made.sent) or task.done())
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
