"""What the image worker finds in a workflow, and what it paints."""

from __future__ import annotations

import base64
import json
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from ryla_tasks.jobs.remote import RemoteJob, RemoteStatus
from ryla_tasks.jobs.verdicts import RemoteEnded, Verdict, judge
from ryla_tasks.simulator.config import EndpointConfig
from ryla_tasks.simulator.directives import Directives
from ryla_tasks.simulator.programs import Image, ProgramError
from ryla_tasks.simulator.programs.painter import MARK, paint
from ryla_tasks.simulator.programs.workflow import Picture, read_workflow

VERDICTS = Path(__file__).parents[2] / "data" / "verdicts"
CONFIG = EndpointConfig(endpoint_id="ep", run_s=8, steps=12)


def sdxl(**changes: Any) -> dict[str, Any]:
    values = {"seed": 42, "steps": 25, "width": 320, "height": 240, "batch_size": 1, "text": "a fox in snow", **changes}
    return {
        "3": {"class_type": "KSampler", "inputs": {"seed": values["seed"], "steps": values["steps"], "model": ["4", 0],
              "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}, "_meta": {"title": "Sampler"}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
        "5": {"class_type": "EmptyLatentImage",
              "inputs": {name: values[name] for name in ("width", "height", "batch_size")}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": values["text"], "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "fox"}},
    }  # fmt: skip


FLUX = {
    "1": {"class_type": "PrimitiveString", "inputs": {"value": "a lighthouse"}},
    "2": {"class_type": "CLIPTextEncodeFlux", "inputs": {"clip_l": ["1", 0], "t5xxl": ["1", 0], "guidance": 3.5}},
    "3": {"class_type": "BasicGuider", "inputs": {"conditioning": ["2", 0], "model": ["9", 0]}},
    "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": 7}},
    "5": {"class_type": "BasicScheduler", "inputs": {"steps": 4, "scheduler": "simple"}},
    "6": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 2}},
    "7": {"class_type": "SamplerCustomAdvanced", "inputs": {"guider": ["3", 0], "noise": ["4", 0], "sigmas": ["5", 0],
          "latent_image": ["6", 0]}},
    "8": {"class_type": "SaveImage", "inputs": {"images": ["7", 0]}},
    "9": {"class_type": "UNETLoader", "inputs": {}},
}  # fmt: skip


def test_reads_an_sdxl_workflow() -> None:
    expected = Picture("a fox in snow", "blurry", 42, 320, 240, 25, 0, "fox_00001_.png", "Sampler")
    assert read_workflow(sdxl(), 20) == [expected]


def test_reads_a_flux_workflow_through_its_links() -> None:
    pictures = read_workflow(FLUX, 20)
    assert [(one.prompt, one.seed, one.width, one.height, one.steps) for one in pictures] == [
        ("a lighthouse", 7, 512, 768, 4)
    ] * 2
    assert [one.filename for one in pictures] == ["ComfyUI_00001_.png", "ComfyUI_00002_.png"]


def test_a_scaling_node_near_the_end_decides_the_size() -> None:
    workflow = sdxl()
    workflow["10"] = {"class_type": "ImageScale", "inputs": {"image": ["8", 0], "width": 640, "height": 480}}
    workflow["9"]["inputs"]["images"] = ["10", 0]
    assert (read_workflow(workflow, 20)[0].width, read_workflow(workflow, 20)[0].height) == (640, 480)


def test_links_in_a_circle_end() -> None:
    workflow = sdxl()
    workflow["4"]["inputs"]["model"] = ["3", 0]
    assert read_workflow(workflow, 20)[0].seed == 42


@pytest.mark.parametrize(
    ("workflow", "names"),
    [
        (None, "not an object"),
        ("text", "not an object"),
        ({}, "not an object"),
        ({"1": {"inputs": {}}}, "node 1"),
        ({"1": {"class_type": "X", "inputs": []}}, "node 1"),
        (sdxl(width=100_000), "width 100000"),
        (sdxl(batch_size=1000), "at most"),
    ],
)
def test_a_wrong_workflow_fails_and_says_where(workflow: Any, names: str) -> None:
    with pytest.raises(ProgramError, match=names):
        read_workflow(workflow, 20)


def answer(workflow: dict[str, Any], **directives: Any) -> dict[str, Any]:
    work = Image().prepare({"workflow": workflow}, Directives(**directives), CONFIG)
    result: dict[str, Any] = work.render()
    return result


def png(data: str) -> PillowImage.Image:
    image = PillowImage.open(BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    return image


def test_answers_as_worker_comfyui_v5_with_real_pictures() -> None:
    output = answer(sdxl(batch_size=2))
    assert [sorted(image) for image in output["images"]] == [["data", "filename", "type"]] * 2
    pictures = [png(image["data"]) for image in output["images"]]
    assert {picture.size for picture in pictures} == {(320, 240)}
    assert pictures[0].tobytes() != pictures[1].tobytes()
    assert "errors" not in output


def test_the_same_seed_paints_the_same_bytes_and_another_does_not() -> None:
    assert answer(sdxl()) == answer(sdxl())
    assert answer(sdxl()) != answer(sdxl(seed=43))
    assert answer(sdxl()) != answer(sdxl(text="a dog"))


def test_every_picture_is_marked_as_simulated_for_eyes_and_programs() -> None:
    image = png(answer(sdxl())["images"][0]["data"])
    assert MARK in image.info["Software"]
    middle = image.crop((0, image.height // 2 - 10, image.width, image.height // 2 + 10)).convert("L")
    shades = middle.histogram()
    assert shades[255] > 100, "the white letters of the mark"
    assert shades[0] > 100, "on a black band"


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (2048, 16)])
def test_odd_sizes_and_odd_prompts_are_painted(size: tuple[int, int]) -> None:
    picture = Picture("☃ \ud800 " + "word " * 500, "", 2**63, *size, 20, 0, "x.png", "n")
    with PillowImage.open(BytesIO(paint(picture))) as image:
        assert image.size == size


def test_painting_a_small_picture_is_quick() -> None:
    picture = Picture("warm the font cache", "", 1, 512, 512, 20, 0, "x.png", "n")
    paint(picture)
    began = time.process_time()
    for _ in range(5):
        paint(picture)
    assert (time.process_time() - began) / 5 < 0.05


def test_directives_make_the_odd_answers() -> None:
    whole = answer(sdxl(batch_size=2))["images"]
    assert answer(sdxl(batch_size=2), drop_images=1, errors=("node 9",)) == {"images": whole[:1], "errors": ["node 9"]}
    assert answer(sdxl(), drop_images=1) == {"images": [], "status": "success_no_images"}
    assert answer(sdxl(), legacy_message=True)["status"] == "success"
    assert png(answer(sdxl(), legacy_message=True)["message"])
    assert answer(sdxl(), data_uri=True)["images"][0]["data"].startswith("data:image/png;base64,")
    with pytest.raises(OSError, match="truncated"):
        png(answer(sdxl(), truncate=True)["images"][0]["data"])


def test_a_workflow_that_saves_nothing_succeeds_without_images() -> None:
    workflow = sdxl()
    workflow["9"]["class_type"] = "PreviewImage"
    assert answer(workflow) == {"images": [], "status": "success_no_images"}


def test_no_workflow_fails_in_the_workers_words() -> None:
    with pytest.raises(ProgramError, match="Missing 'workflow' parameter"):
        Image().prepare({"prompt": "x"}, Directives(), CONFIG)


def failure(**config: Any) -> Verdict:
    """What our side makes of it when the simulated worker fails."""
    with pytest.raises(ProgramError) as caught:
        Image().prepare({"workflow": sdxl()}, Directives(), CONFIG.model_copy(update=config))
    return judge(RemoteEnded(RemoteJob("r", RemoteStatus.FAILED, "FAILED", error=str(caught.value))))


def test_a_missing_model_is_told_as_worker_comfyui_does() -> None:
    verdict = failure(missing_models=("sdxl.safetensors", "other.safetensors"))
    recorded = json.loads((VERDICTS / "worker_comfyui_missing_model.json").read_text())["expect"]
    (node,) = verdict.nodes
    assert (verdict.code, set(node)) == (recorded["code"], set(recorded["nodes"][0]))
    assert (node["node"], node["input"], node["type"]) == ("4", "ckpt_name", "value_not_in_list")


def test_a_missing_node_comes_before_a_missing_model() -> None:
    verdict = failure(missing_models=("sdxl.safetensors",), missing_nodes=("KSampler",))
    assert verdict.code == "missing_node"


def test_an_endpoint_that_has_all_paints() -> None:
    config = CONFIG.model_copy(update={"missing_models": ("x.safetensors",), "missing_nodes": ("X",)})
    assert Image().prepare({"workflow": sdxl()}, Directives(), config).render()["images"]
