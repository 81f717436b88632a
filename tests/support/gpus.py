"""The three GPU workers as RunPod runs them: processes on the unmodified SDK, joined to endpoints of the simulator."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from ryla_tasks.simulator import EndpointConfig
from tests.support.comfyui.process import command, control, look
from tests.support.fleet import ENDPOINTS, Fleet, eventually

__all__ = ["ComfyWorker", "GpuWorker", "join", "trainer_env"]

ROOT = Path(__file__).parents[2]


def join(fleet: Fleet, *names: str) -> None:
    """Have real workers do the jobs of these endpoints, which have none from now on."""
    for name in names:
        fleet.endpoint(name).remove()
        endpoint_id, _program = ENDPOINTS[name]
        fleet.simulator.add_endpoint(
            EndpointConfig(endpoint_id=endpoint_id, joined=True, cold_start_s=0.2, ping_interval_s=1, lease_s=5)
        )


class GpuWorker:
    """One worker process, and what it says in its log."""

    def __init__(self, fleet: Fleet, endpoint: str, module: str, folder: Path, worker_id: str, **env: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        joined = fleet.simulator.worker_env(ENDPOINTS[endpoint][0], worker_id)
        self.log = folder / f"{worker_id}.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **joined, "HOME": str(folder), "PYTHONPATH": str(ROOT), **env},
            cwd=ROOT, stdout=self.log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """End it, and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)


class ComfyWorker(GpuWorker):
    """The comfyui worker, which starts a stand-in ComfyUI of its own. `options` are the stand-in's."""

    def __init__(
        self, fleet: Fleet, endpoint: str, folder: Path, worker_id: str, *, options: tuple[str, ...] = (), **env: str
    ) -> None:
        self.base = folder / f"comfy-{worker_id}"
        self.base.mkdir(parents=True)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        own = {
            "COMFY_URL": self.url,
            "COMFY_COMMAND": shlex.join(command(self.base, "--port", str(port), *options)),
            "COMFYUI_DIR": str(self.base),
            "RYLA_VOLUME": str(folder / "no-volume"),
            "RYLA_WORKER_PROGRESS_S": "0.1",
        }
        super().__init__(fleet, endpoint, "workers.comfyui", folder, worker_id, **{**own, **env})

    def seen(self) -> dict[str, Any]:
        """What was asked of its ComfyUI."""
        return look(self.url)

    def control(self, **orders: Any) -> None:
        control(self.url, **orders)

    def comfy_pid(self) -> int:
        """Of its ComfyUI, which is in a session of its own."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        for pid in " ".join(one.read_text() for one in children).split():
            if "tests.support.comfyui" in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
        return 0

    def close(self) -> None:
        pid = self.comfy_pid()
        super().close()
        if pid:
            os.kill(pid, signal.SIGKILL)

    def wait_ready(self) -> None:
        eventually(lambda: "ComfyUI is ready" in self.log.read_text(), what="a ComfyUI that is ready")


def trainer_env(folder: Path, volume: Path | None) -> dict[str, str]:
    """What a trainer on the stand-in AI Toolkit has in its environment."""
    return {
        "RYLA_TRAINER_TOOLKIT": str(ROOT / "tests/support/ai_toolkit"),
        "RYLA_TRAINER_WORK": str(folder / "work"),
        "RYLA_TRAINER_POLL_S": "0.1",
        "RYLA_VOLUME": str(volume or folder / "no-volume"),
        "AITK_STEP_S": "0.005",
    }
