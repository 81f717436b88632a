"""Trainings end to end, and what follows them in a canvas."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import chain

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import InvalidJob
from ryla_tasks.jobs.states import State
from tests.support.fleet import Fleet
from tests.support.pictures import picture

IMAGES = [f"https://example.org/{number}.png" for number in range(3)]


def training(**more: Any) -> Any:
    return ryla_tasks.train_lora.s(trigger_word="rylagirl", images=IMAGES, steps=20, **more)


def image(template: str = "flux-dev", **more: Any) -> Any:
    return ryla_tasks.generate_image.s(template=template, prompt="rylagirl", width=64, height=64, **more)


def inputs(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    endpoint = fleet.endpoint(name)
    return [endpoint.job(one.id).input for one in endpoint.jobs()]


def lora_names(workflow: dict[str, Any]) -> list[str]:
    return [node["inputs"]["lora_name"] for node in workflow.values() if "lora_name" in node["inputs"]]


@pytest.fixture
def trainer(served: Fleet) -> Fleet:
    served.endpoint("lora").update(program="lora")
    return served


def test_a_training_gives_a_lora_and_tells_its_loss(trainer: Fleet) -> None:
    trainer.endpoint("lora").update(run_s=1.5)
    job = Job(training(name="Ryla").delay().id)
    messages = [event.data.get("message", "") for event in job.events(follow=True, timeout=30)]
    assert any("loss 0." in message for message in messages)
    value = job.result()
    (lora,) = value["artifacts"]
    record = job.record
    assert (lora["content_type"], lora["filename"]) == (
        "application/x-safetensors", f"{record.correlation_id}.safetensors",
    )  # fmt: skip
    assert value["data"]["base_model"] == "flux"
    assert value["data"]["lora"]["sha256"] == lora["sha256"]
    assert (record.spec.kind, record.spec.on_unknown, record.spec.label) == ("lora", "wait", "lora flux")
    (sent,) = inputs(trainer, "lora")
    assert sent["images"] == [{"url": url} for url in IMAGES]
    assert sent["resolution"] == [512, 768, 1024]


def test_a_trained_lora_is_used_by_the_job_after_it(trainer: Fleet) -> None:
    result = chain(training(), image(), image("flux-pulid", face=picture())).delay()
    result.get(timeout=40)
    (name,) = [one["filename"] for one in result.parent.parent.get()["artifacts"]]
    second, third = sorted(inputs(trainer, "image"), key=lambda one: len(one["workflow"]))
    assert lora_names(second["workflow"]) == [name]
    assert lora_names(third["workflow"]) == []  # the result before it is an image
    assert "files" not in second  # a folder has no URLs for GPU workers: it must be on their volume


@pytest.mark.parametrize(("template", "words"), [("sdxl", "was trained for flux, and the template 'sdxl' is for sdxl")])
def test_a_lora_of_another_base_model_is_the_follower_s_error(trainer: Fleet, template: str, words: str) -> None:
    result = chain(training(), image(template)).delay()
    with pytest.raises(InvalidJob, match=words):
        result.get(timeout=30)
    assert Job.get(result.parent.id).status is State.COMPLETED


def test_a_lora_that_is_gone_is_the_follower_s_error(trainer: Fleet) -> None:
    value = training().delay().get(timeout=30)
    (trainer.folder / "artifacts" / value["artifacts"][0]["key"]).unlink()
    with pytest.raises(InvalidJob, match="is gone") as caught:
        image().type.delay(value, template="flux-dev", prompt="x")
    assert caught.value.field == "lora"


def test_a_lora_on_the_volume_alone_is_used_by_its_name(trainer: Fleet) -> None:
    lora = {"filename": "abc.safetensors", "type": "volume", "data": "/runpod-volume/models/loras/abc.safetensors"}
    output = {"lora": lora, "steps": 20, "base_model": "flux", "warnings": ["The store failed."]}
    job_input = {"trigger_word": "x", "images": IMAGES, "simulate": {"output": output}}
    value = ryla_tasks.run_endpoint.delay("lora", job_input).get(timeout=30)
    assert (value["artifacts"], value["warnings"]) == ([], ["The store failed."])
    assert json.loads(json.dumps(value["data"]["lora"])) == lora
    ryla_tasks.generate_image.delay(value, template="flux-dev", prompt="x").get(timeout=30)
    (sent,) = inputs(trainer, "image")
    assert lora_names(sent["workflow"]) == ["abc.safetensors"]
