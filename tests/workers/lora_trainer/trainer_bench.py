"""A workbench for the LoRA trainer's tests: a file server, the stand-in AI Toolkit, and the handler run as it is."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.file_server import FileServer
from workers.common.storing import Store
from workers.lora_trainer.handler import Handler
from workers.lora_trainer.settings import Settings

TOOLKIT = Path(__file__).parents[2] / "support" / "ai_toolkit"


def picture(kind: str = "PNG", size: tuple[int, int] = (96, 128), color: int = 0) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, (color % 256, 80, 120)).save(made, kind)
    return made.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


@dataclass
class Bench:
    """Runs jobs with the real handler, and keeps the progress that they told."""

    settings: Settings
    files: FileServer
    store: Store | None = None
    told: list[dict[str, Any]] = field(default_factory=list)

    def images(self, count: int = 3) -> list[dict[str, str]]:
        return [{"url": self.files.add(f"/{number}.png", picture(color=number))} for number in range(count)]

    def request(self, **changes: Any) -> dict[str, Any]:
        asked = {"trigger_word": "ohwx", "images": self.images(), "steps": 60, "save_every": 20, "resolution": 512}
        ryla = {"job_id": "job-1", "attempt": 1, "correlation_id": "cor-1", "webhook": f"{self.files.url}/hook"}
        return {name: value for name, value in {**asked, "ryla": ryla, **changes}.items() if value is not None}

    def handler(self, **changes: Any) -> Handler:
        def sender(_job: dict[str, Any]) -> Any:
            async def send(update: dict[str, Any]) -> None:
                self.told.append(json.loads(json.dumps(update, allow_nan=False)))

            return send

        return Handler(replace(self.settings, **changes), self.store, sender)

    def run(self, request: dict[str, Any], *, remote_id: str = "r-1", **changes: Any) -> dict[str, Any]:
        """The answer to one job. It must be JSON: the SDK sends it so."""
        answer = asyncio.run(self.handler(**changes)({"id": remote_id, "input": request}))
        return json.loads(json.dumps(answer, allow_nan=False))

    def run_and_cancel(self, request: dict[str, Any], when: Callable[[], bool], **changes: Any) -> float:
        """Cancel the job as the SDK does, once `when` holds; the seconds until it had ended."""

        async def go() -> float:
            task = asyncio.create_task(self.handler(**changes)({"id": "r-1", "input": request}))
            while not when():
                assert not task.done(), task.result()
                await asyncio.sleep(0.02)
            loop = asyncio.get_running_loop()
            began = loop.time()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            return loop.time() - began

        return asyncio.run(go())

    def left(self) -> list[str]:
        """What is left in the work folder."""
        return sorted(path.name for path in self.settings.work.iterdir()) if self.settings.work.is_dir() else []


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
