"""Images and sheets through Celery, done by two real workers with a ComfyUI (a stand-in) each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ryla_tasks import Job, generate_image, make_character_sheet, run_endpoint
from ryla_tasks.errors import JobFailed
from tests.conftest import QUICK, fresh_settings
from tests.support.fleet import Fleet, eventually
from tests.support.gpus import ComfyWorker, join
from tests.support.pictures import picture

MODELS = (
    "sd_xl_base_1.0.safetensors", "ip-adapter_pulid_sdxl_fp16.safetensors",
    "xinsir-controlnet-union-sdxl-promax.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def gpus(whole_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ComfyWorker]]:
    whole_fleet.stop_workers()
    whole_fleet.reset()
    join(whole_fleet, "image", "special")
    folder = tmp_path_factory.mktemp("gpus")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setenv(name, value)
        fresh_settings()
        options = ("--files", json.dumps(MODELS))
        with (
            closing(ComfyWorker(whole_fleet, "image", folder, "i-1", options=options)) as image,
            closing(ComfyWorker(whole_fleet, "special", folder, "s-1", options=options)) as special,
        ):
            whole_fleet.worker("--concurrency", "4", **QUICK).wait_ready()
            image.wait_ready()
            special.wait_ready()
            yield {"image": image, "special": special}
    whole_fleet.stop_workers()
    fresh_settings()


def long_job(**more: Any) -> Job:
    """Two seconds of sampling."""
    asked = {"template": "sdxl", "prompt": "a lighthouse", "width": 64, "height": 64, "steps": 100, **more}
    return Job.get(generate_image.delay(**asked).id)


def under_way(job: Job, gpu: ComfyWorker) -> None:
    eventually(lambda: gpu.seen()["running"] and job.progress.percent > 10, what="a job in mid-run")


def test_an_image_by_a_template(gpus: dict[str, ComfyWorker]) -> None:
    result = generate_image.delay(template="sdxl", prompt="a lighthouse", width=64, height=64, steps=2, count=2)
    got = result.get(timeout=30)
    assert [one["content_type"] for one in got["artifacts"]] == ["image/png"] * 2
    said = gpus["image"].log.read_text()
    assert "Finished." in said
    assert "Handler output" not in said, "the SDK would log results, with their URLs"
    prompt = gpus["image"].seen()["prompts"][-1]
    assert "a lighthouse" in [node["inputs"].get("text") for node in prompt.values()]


def test_a_sheet_with_an_angle_that_fails(gpus: dict[str, ComfyWorker]) -> None:
    angles = ["front", {"angle": "side-left", "pose": {"url": "https://127.0.0.1:9/pose.png"}}, "back"]
    result = make_character_sheet.delay(image=picture(3), angles=angles, width=64, height=64, steps=2)
    got = result.get(timeout=40)
    assert got["missing"] == ["side-left"]
    assert {cell["name"]: cell["status"] for cell in got["cells"]} == {
        "front": "completed", "side-left": "failed", "back": "completed",
    }  # fmt: skip
    (failed,) = [cell for cell in got["cells"] if cell["status"] == "failed"]
    assert failed["error"]["code"] == "fetch_refused"
    assert len(got["artifacts"]) == 2


def test_a_cancel_of_a_sheet_reaches_comfyui(gpus: dict[str, ComfyWorker]) -> None:
    gpu = gpus["special"]
    before = len(gpu.seen()["interrupts"])
    result = make_character_sheet.delay(image=picture(3), angles=["front", "back"], width=64, height=64, steps=100)
    sheet = Job.get(result.id)
    eventually(lambda: gpu.seen()["running"], what="a cell in mid-run")
    sheet.cancel()
    eventually(lambda: sheet.status == "cancelled", timeout=10, what="the sheet is cancelled")
    eventually(lambda: gpu.seen()["running"] is None, timeout=5, what="ComfyUI has stopped")
    assert len(gpu.seen()["interrupts"]) == before + 1
    assert {cell.status for cell in sheet.cells} == {"cancelled"}


def test_dropped_sockets_in_mid_job(gpus: dict[str, ComfyWorker]) -> None:
    gpu, job = gpus["image"], long_job(steps=60)
    under_way(job, gpu)
    gpu.control(drop_sockets_s=1.0)
    got = Job.get(job.id)
    assert eventually(lambda: got.status == "completed", timeout=20, what="the job is done")
    assert len(job.result()["artifacts"]) == 1
    percents = [event.data["percent"] for event in job.events() if event.type == "progress"]
    assert percents == sorted(percents)


def test_a_preflight_by_the_callers_side(gpus: dict[str, ComfyWorker]) -> None:
    nodes = {"1": {"class_type": "NoSuchNode", "inputs": {}}}
    data = run_endpoint.delay("image", {"workflow": nodes, "check": True}).get(timeout=20)["data"]
    assert data["missing_nodes"] == ["NoSuchNode"]
    assert not data["ok"]
    with pytest.raises(JobFailed) as failed:
        generate_image.delay(workflow=nodes).get(timeout=20)
    assert failed.value.info["code"] == "missing_node"
