"""Jobs sent through Celery, done by the worker as its image starts it: unmodified SDK, simulator, stand-in ComfyUI.

With COMFY_COMMAND and COMFYUI_DIR in the environment it starts that ComfyUI instead, a real one for example: "python
main.py --cpu --listen 127.0.0.1 --port 18188" with COMFY_URL to match. It must have the node of
`tests/support/comfyui/custom_nodes`; tests that need models or faces are left out.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from comfy_bench import free_url, workflow
from PIL import Image

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import JobFailed
from ryla_tasks.simulator import EndpointConfig
from tests.conftest import QUICK, fresh_settings
from tests.support.comfyui.process import ROOT, command
from tests.support.fleet import WorkerProcess, eventually

REAL = os.environ.get("COMFY_COMMAND", "")
LONG = {"steps": 300, "delay": 0.05}

stand_in_only = pytest.mark.skipif(bool(REAL), reason="needs models or faces, which the ComfyUI of COMFY_COMMAND lacks")


def model_files() -> list[str]:
    """The model files that the built-in templates name."""
    texts = (path.read_text() for path in (ROOT / "ryla_tasks/workflows/builtin").rglob("*.json"))
    return sorted({name for text in texts for name in re.findall(r'"([^"]+\.(?:safetensors|pth|onnx|bin|pt))"', text)})


class Gpu:
    """The endpoints `image` and `special`, with one worker at the first or at both."""

    def __init__(self, fleet: Any, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self.url = os.environ["COMFY_URL"] if REAL else free_url()
        for name in ("image", "special"):
            fleet.endpoint(name).remove()
        self.control = {
            name: fleet.simulator.add_endpoint(
                EndpointConfig(endpoint_id=endpoint, joined=True, cold_start_s=0.5, ping_interval_s=1, lease_s=5)
            )
            for name, endpoint in (("image", "img"), ("special", "spc"))
        }
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a worker at an endpoint. The one at `image` starts ComfyUI, the other asks it."""
        endpoint_id = {"image": "img", "special": "spc"}[name]
        port = self.url.rpartition(":")[2]
        files = json.dumps(model_files())
        starts = REAL or shlex.join(command(self.folder, "--port", port, "--files", files))
        own = {
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "COMFY_URL": self.url,
            "COMFYUI_DIR": os.environ["COMFYUI_DIR"] if REAL else str(self.folder),
            "COMFY_COMMAND": starts if name == "image" else "",
            "RYLA_VOLUME": str(self.folder / "volume"),
            "RYLA_FACE_DETECTOR": "tests.support.comfyui.red_faces:count_red",
        }
        self.workers[name] = subprocess.Popen(
            [sys.executable, "-m", "workers.comfyui"],
            env={**os.environ, **self.fleet.simulator.worker_env(endpoint_id, f"gpu-{name}"), **own},
            cwd=ROOT,
            stdout=(self.folder / f"{name}.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def comfy(self) -> psutil.Process:
        """ComfyUI's process."""

        def found() -> psutil.Process | None:
            wanted = "main.py" if REAL else "tests.support.comfyui"
            children = psutil.Process(self.workers["image"].pid).children()
            return next((one for one in children if wanted in one.cmdline()), None)

        return eventually(found, what="a ComfyUI")

    def running(self) -> list[Any]:
        """What ComfyUI is at."""
        queue: dict[str, list[Any]] = requests.get(f"{self.url}/queue", timeout=5).json()
        return queue["queue_running"]

    def close(self) -> None:
        for worker in self.workers.values():
            for one in [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]:
                one.kill()
            worker.wait()


@pytest.fixture(scope="module")
def gpu(whole_fleet: Any, shared_worker: WorkerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpu]:
    patch = pytest.MonkeyPatch()
    for name, value in QUICK.items():
        patch.setenv(name, value)
    fresh_settings()
    gpu = Gpu(whole_fleet, tmp_path_factory.mktemp("gpu"))
    try:
        gpu.start("image")
        yield gpu
        assert shared_worker.alive(), shared_worker.text[-3000:]
    finally:
        gpu.close()
        whole_fleet.reset()
        patch.undo()
        fresh_settings()


def send(nodes: dict[str, Any], **options: Any) -> Any:
    return ryla_tasks.run_endpoint.apply_async(("image", {"workflow": nodes}), **options)


def stepping(result: Any) -> Job:
    job = Job.get(result.id)
    eventually(lambda: "step" in job.progress.message, timeout=60, what="steps")
    return job


def test_progress_and_an_image_from_end_to_end(gpu: Gpu) -> None:
    result = send(workflow(_3={"steps": 60, "delay": 0.03, "seed": 1}))
    job = stepping(result)
    assert job.progress.message.startswith("SlowSteps: step ")
    assert 0 < job.progress.percent < 99
    got = result.get(timeout=30)
    assert [one["filename"] for one in got["artifacts"]] == ["job_a_00001_.png"]
    assert got["attempts"] == 1


@stand_in_only
@pytest.mark.parametrize("template", ["z-image-turbo", "sdxl", "flux-dev"])
def test_templates_are_valid_for_comfyui(gpu: Gpu, template: str) -> None:
    result = ryla_tasks.generate_image.delay(template=template, prompt="a hut", steps=2, width=64, height=64)
    assert len(result.get(timeout=30)["artifacts"]) == 1


def test_what_comfyui_refuses_names_the_node(gpu: Gpu) -> None:
    with pytest.raises(JobFailed) as failed:
        send(workflow(_2={"upscale_method": "no-such"})).get(timeout=30)
    assert failed.value.info["code"] == "invalid_workflow"
    (node,) = failed.value.info["details"]["nodes"]
    assert (node["node"], node["class"], node["input"]) == ("2", "ImageScale", "upscale_method")


def test_a_cancel_reaches_comfyui(gpu: Gpu) -> None:
    job = stepping(send(workflow(_3=LONG | {"seed": 2})))
    assert len(gpu.running()) == 1
    job.cancel()
    eventually(lambda: gpu.running() == [], what="ComfyUI has stopped")
    eventually(lambda: job.status == "cancelled", what="the job is cancelled")


def test_a_job_outlives_the_death_of_its_comfyui(gpu: Gpu) -> None:
    """The first attempt fails, the second waits until ComfyUI is back."""
    result = send(workflow(_3={"steps": 60, "delay": 0.05, "seed": 3}))
    stepping(result)
    gpu.comfy().send_signal(signal.SIGKILL)
    got = result.get(timeout=90)
    assert len(got["artifacts"]) == 1
    assert got["attempts"] == 2


def picture(color: str) -> dict[str, str]:
    out = io.BytesIO()
    Image.new("RGB", (48, 48), color).save(out, "PNG")
    return {"image": base64.b64encode(out.getvalue()).decode()}


@stand_in_only
def test_a_face_swap_and_one_without_a_face(gpu: Gpu) -> None:
    gpu.start("special")
    swapped = ryla_tasks.swap_face.delay(image=picture("red"), face=picture("red"))
    assert len(swapped.get(timeout=30)["artifacts"]) == 1
    with pytest.raises(JobFailed, match="No face was found") as failed:
        ryla_tasks.swap_face.delay(image=picture("red"), face=picture("blue")).get(timeout=30)
    assert failed.value.info["code"] == "no_face"
