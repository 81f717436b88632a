"""The public worker-comfyui, unmodified, at the simulator, with the stand-in ComfyUI behind it.

Opt-in: RYLA_WORKER_COMFYUI is the folder of a checkout of runpod-workers/worker-comfyui; where this Python lacks its
requirements (an older `runpod`, websocket-client), RYLA_WORKER_COMFYUI_PYTHON is one that has them. It wants port 8188.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ryla_tasks.simulator import EndpointConfig, RunningSimulator, Simulator, SimulatorConfig

CHECKOUT = os.environ.get("RYLA_WORKER_COMFYUI", "")
PYTHON = os.environ.get("RYLA_WORKER_COMFYUI_PYTHON", sys.executable)
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="RYLA_WORKER_COMFYUI is not set")

PICTURE: dict[str, Any] = {
    "3": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "a"}},
}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    folder = tmp_path_factory.mktemp("worker-comfyui")
    process = pytest.importorskip("tests.support.comfyui.process")
    comfy = process.ComfyProcess(folder, "--port", "8188")
    endpoint = EndpointConfig(endpoint_id="comfy", joined=True, ping_interval_s=1, lease_s=5)
    with Simulator.running(SimulatorConfig(endpoints=(endpoint,))) as running, (folder / "log").open("wb") as log:
        environment = {**os.environ, **running.worker_env("comfy", "gpu-1"), "HOME": str(folder)}
        environment |= {"PYTHONPATH": str(Path(CHECKOUT) / "src"), "COMFY_API_AVAILABLE_MAX_RETRIES": "20"}
        worker = subprocess.Popen(
            [PYTHON, str(Path(CHECKOUT) / "handler.py")],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        yield running
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    comfy.kill()


@pytest.fixture
def ended(simulator: RunningSimulator) -> Callable[[dict[str, Any]], dict[str, Any]]:
    headers = {"Authorization": f"Bearer {simulator.key}"}
    url = f"{simulator.base_url}/comfy"

    def run(job_input: dict[str, Any]) -> dict[str, Any]:
        job_id = requests.post(f"{url}/run", json={"input": job_input}, headers=headers, timeout=5).json()["id"]
        until = time.monotonic() + 30
        while True:
            seen: dict[str, Any] = requests.get(f"{url}/status/{job_id}", headers=headers, timeout=5).json()
            if seen["status"] not in ("IN_QUEUE", "IN_PROGRESS"):
                return seen
            assert time.monotonic() < until, seen
            time.sleep(0.05)

    return run


def test_it_answers_with_a_picture(ended: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    done = ended({"workflow": PICTURE})
    assert (done["status"], done["workerId"]) == ("COMPLETED", "gpu-1"), done
    image = done["output"]["images"][0]
    assert image["type"] == "base64"
    assert base64.b64decode(image["data"]).startswith(b"\x89PNG")


def test_its_failures_come_through(ended: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    assert ended({"nothing": 1})["error"] == "Missing 'workflow' parameter"
    unknown = ended({"workflow": {**PICTURE, "9": {"class_type": "Nope", "inputs": {}}}})
    assert unknown["status"] == "FAILED"
    assert "node Nope does not exist" in unknown["error"]
