"""Templates with images, optional parts and fallbacks, as jobs; a check as a job."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from celery import chain, group
from click.testing import CliRunner

import ryla_tasks
from ryla_tasks.cli import cli
from ryla_tasks.cli.exits import Exit
from ryla_tasks.errors import InvalidJob
from ryla_tasks.simulator.programs.painter import paint
from ryla_tasks.simulator.programs.workflow import Picture
from tests.support.fleet import Fleet

FACE = {"image": base64.b64encode(paint(Picture("a face", "", 1, 16, 16, 1, 0, "face.png", "3"))).decode()}


def small(**more: Any) -> Any:
    return ryla_tasks.generate_image.s(template="z-image-turbo", width=64, height=64, steps=1, prompt="a hut", **more)


def sent(fleet: Fleet) -> list[dict[str, Any]]:
    endpoint = fleet.endpoint("image")
    return [endpoint.job(job.id).input or {} for job in endpoint.jobs()]


def classes(job_input: dict[str, Any]) -> set[str]:
    return {node["class_type"] for node in job_input["workflow"].values()}


def test_an_image_of_a_parameter_travels_under_the_name_that_its_node_has(served: Fleet) -> None:
    result = ryla_tasks.generate_image.delay(template="flux-pulid", prompt="a hut", face=FACE, steps=1, width=64)
    assert result.get(timeout=30)["label"] == "flux-pulid"
    (job_input,) = sent(served)
    (image,) = job_input["images"]
    assert image["image"] == FACE["image"]
    assert job_input["workflow"]["8"]["inputs"]["image"] == image["name"]
    assert job_input["needs_face"] == [image["name"]]
    assert "LoraLoader" not in classes(job_input)


def test_a_chain_hands_its_image_to_the_parameter_that_is_not_given(served: Fleet) -> None:
    face = {"url": "https://example.org/me.png?signature=s3cret"}
    swap = ryla_tasks.generate_image.s(template="face-swap-reactor", face=face)
    result = chain(small(seed=1), swap).delay()
    result.get(timeout=30)
    first = result.parent.get(timeout=1)
    stored = (served.folder / "artifacts" / first["artifacts"][0]["key"]).read_bytes()
    _, job_input = sent(served)
    images = {image["name"]: image for image in job_input["images"]}
    nodes = job_input["workflow"]
    assert base64.b64decode(images[nodes["1"]["inputs"]["image"]]["image"]) == stored
    assert images[nodes["2"]["inputs"]["image"]]["url"] == face["url"]
    assert sorted(job_input["needs_face"]) == sorted(images)


def test_an_artifact_of_a_result_is_a_value_too(served: Fleet) -> None:
    first = small(seed=2).delay().get(timeout=30)
    second = ryla_tasks.generate_image.delay(template="inpaint", prompt="a door", image=first["artifacts"][0], steps=1)
    second.get(timeout=30)
    *_, job_input = sent(served)
    assert [image["name"] for image in job_input["images"]] == [job_input["workflow"]["7"]["inputs"]["image"]]
    gone = {"key": "jobs/nope/0.png", "content_type": "image/png"}
    with pytest.raises(InvalidJob) as caught:
        ryla_tasks.generate_image.delay(template="inpaint", prompt="a door", image=gone)
    assert caught.value.field == "image"


def test_images_of_a_group_fill_the_parameters_in_their_order(served: Fleet) -> None:
    swap = ryla_tasks.generate_image.s(template="face-swap-reactor")
    result = chain(group(small(seed=1), small(seed=2)), swap).delay()
    result.get(timeout=40)
    *_, job_input = sent(served)
    assert len(job_input["images"]) == 2
    first, second = (job_input["workflow"][node]["inputs"]["image"] for node in ("1", "2"))
    assert [image["name"] for image in job_input["images"]] == [first, second]


def test_a_second_image_is_no_mask(served: Fleet) -> None:
    """Optional parameters are for those who mean them."""
    paint_over = ryla_tasks.generate_image.s(template="inpaint", prompt="a door", steps=1)
    chain(small(count=2), paint_over).delay().get(timeout=30)
    *_, job_input = sent(served)
    assert len(job_input["images"]) == 1
    assert "LoadImageMask" not in classes(job_input)


def test_too_few_images_are_said_by_the_parameter_that_has_none(served: Fleet) -> None:
    result = chain(small(), ryla_tasks.generate_image.s(template="face-swap-reactor")).delay()
    with pytest.raises(InvalidJob, match="face is required"):
        result.get(timeout=30)


def test_missing_nodes_make_the_elaborate_one_fall_back_to_the_simple_one(served: Fleet) -> None:
    served.endpoint("image").update(missing_nodes=["ClownsharKSampler_Beta"])
    result = ryla_tasks.generate_image.delay(
        template="z-image-danrisi", prompt="a hut", width=64, height=64, seed=9, lora="me.safetensors"
    ).get(timeout=30)
    assert (result["label"], result["seed"]) == ("z-image-turbo", 9)
    assert [(one["from"], one["to"]) for one in result["fallbacks"]] == [("z-image-danrisi", "z-image-turbo")]
    assert "LoraLoader" in classes(sent(served)[-1])


def test_a_check_asks_a_worker_and_runs_nothing(served: Fleet) -> None:
    def check(*arguments: str, code: Exit) -> Any:
        result = CliRunner().invoke(cli, ["workflows", "check", *arguments, "--endpoint", "image", "--json"])
        assert result.exit_code == code, (result.output, result.exception)
        return json.loads(result.stdout)

    assert check("sdxl", code=Exit.OK)["ok"]
    served.endpoint("image").update(
        missing_nodes=["ApplyPulidFlux"], missing_models=["flux1-dev.safetensors", "me.safetensors"]
    )
    found = check("flux-pulid", code=Exit.FAILED)
    assert found["missing_nodes"] == ["ApplyPulidFlux"]
    assert found["missing_models"] == ["flux1-dev.safetensors"]
    with_lora = check("sdxl", "--param", "lora=me.safetensors", code=Exit.FAILED)
    assert with_lora["missing_models"] == ["me.safetensors"]
    assert ryla_tasks.Job.get(found["job_id"]).artifacts == []
    assert all(job_input["check"] is True for job_input in sent(served))


def test_a_worker_that_knows_no_check_is_told_from_one_that_does(served: Fleet) -> None:
    result = CliRunner().invoke(cli, ["workflows", "check", "sdxl", "--endpoint", "echo"])
    assert result.exit_code == Exit.FAILED
    assert "does not know the preflight" in result.stderr
