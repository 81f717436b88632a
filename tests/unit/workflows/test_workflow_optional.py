"""Parts that are left out, texts that are joined, choices that stand for other values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ryla_tasks.errors import ConfigurationError, InvalidJob
from ryla_tasks.workflows import Manifest, Template, get_template, render_fallbacks

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "Load", "inputs": {}},
    "2": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1], "name": "x"}},
    "3": {"class_type": "Identity", "inputs": {"model": ["2", 0], "face": ["4", 0]}},
    "4": {"class_type": "Face", "inputs": {}},
    "5": {"class_type": "Text", "inputs": {"clip": ["2", 1], "text": "old"}},
    "6": {"class_type": "Sample", "inputs": {"model": ["3", 0], "text": ["5", 0], "hint": ["4", 1]}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0]}},
}
LORA = {"parameter": "lora", "bypass": {"2": ["model", "clip"]}}
FACE = {"parameter": "keep_face", "bypass": {"3": ["model"], "4": [None, None]}}


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "sample",
        "title": "Sample",
        "description": "For tests.",
        "parameters": [
            {
                "name": "lora",
                "type": "text",
                "description": "x",
                "default": "",
                "targets": [{"node": "2", "input": "name"}],
            },
            {"name": "keep_face", "type": "bool", "description": "x", "default": True},
            {"name": "prompt", "type": "text", "description": "x", "default": ""},
            {
                "name": "angle",
                "type": "choice",
                "description": "x",
                "choices": ["front", "none"],
                "values": {"front": "seen {from} the front", "none": ""},
                "default": "front",
            },
        ],
        "nodes": [node["class_type"] for node in WORKFLOW.values()],
        "models": [],
        "output_nodes": ["7"],
        "expected_seconds": 5,
        "optional": [LORA, FACE],
        "joined": [{"target": {"node": "5", "input": "text"}, "parameters": ["angle", "prompt"], "separator": "; "}],
        **changes,
    }


def template(**changes: Any) -> Template:
    return Template(Manifest.model_validate(manifest(**changes)), WORKFLOW)


def links(workflow: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{node_id}.{name}": value
        for node_id, node in workflow.items()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    }


def test_links_are_led_past_what_is_left_out() -> None:
    both = template().render(lora="me.safetensors")
    assert links(both.workflow) == links(WORKFLOW)
    assert both.workflow["2"]["inputs"]["name"] == "me.safetensors"
    assert links(template().render().workflow) == {
        "3.model": ["1", 0],
        "3.face": ["4", 0],
        "5.clip": ["1", 1],
        "6.model": ["3", 0],
        "6.text": ["5", 0],
        "6.hint": ["4", 1],
        "7.images": ["6", 0],
    }
    bare = template().render(keep_face=False)
    assert links(bare.workflow) == {
        "5.clip": ["1", 1],
        "6.model": ["1", 0],
        "6.text": ["5", 0],
        "7.images": ["6", 0],
    }
    assert bare.workflow.keys() == {"1", "5", "6", "7"}
    assert template().workflow == WORKFLOW


@given(st.booleans(), st.booleans())
def test_every_variant_is_whole(lora: bool, face: bool) -> None:
    workflow = template().render(lora="x" if lora else "", keep_face=face).workflow
    assert all(value[0] in workflow for value in links(workflow).values())
    assert json.loads(json.dumps(workflow)) == workflow


@pytest.mark.parametrize(
    ("optional", "says"),
    [
        ([{**LORA, "bypass": {"9": []}}], "node '9' is not in the workflow"),
        ([{**LORA, "bypass": {"2": ["model"]}}], "input 'clip' of node '5' needs output 1 of node '2'"),
        ([{**LORA, "bypass": {"2": ["model", "name"]}}], "node '2' has no input 'name' that is a link"),
        ([{**LORA, "bypass": {"2": ["model", ["9", 0]]}}], "leads nowhere"),
        ([{**LORA, "bypass": {"2": ["model", ["2", 1]]}}], "leads nowhere"),
        ([{**LORA, "bypass": {"2": ["model", "clip"], "1": []}}], "led round in a circle"),
        ([{**LORA, "bypass": {one: [] for one in WORKFLOW}}], "nothing is left"),
        ([{**LORA, "parameter": "nope"}], "'nope' is no parameter that may be empty"),
        ([{**LORA, "parameter": "angle"}], "'angle' is no parameter that may be empty"),
        ([LORA], "parameter 'keep_face' has no targets"),
    ],
)
def test_a_part_that_cannot_be_left_out_is_refused_at_load(optional: list[Any], says: str) -> None:
    with pytest.raises((ConfigurationError, ValidationError)) as caught:
        template(optional=optional if says.startswith("parameter") else [*optional, FACE])
    assert says in str(caught.value)


def test_texts_are_joined_literally() -> None:
    def text(**params: Any) -> str:
        joined: str = template().render(**params).workflow["5"]["inputs"]["text"]
        return joined

    assert text(prompt="a {man}") == "seen {from} the front; a {man}"
    assert text(prompt="") == "seen {from} the front"
    assert text(prompt="; x", angle="none") == "; x"
    assert text(angle="none") == ""


@pytest.mark.parametrize(
    ("joined", "says"),
    [
        ({"target": {"node": "9", "input": "text"}, "parameters": ["angle", "prompt"]}, "node '9'"),
        ({"target": {"node": "5", "input": "clip"}, "parameters": ["angle", "prompt"]}, "link"),
        (
            {"target": {"node": "5", "input": "text"}, "parameters": ["prompt", "angle", "keep_face"]},
            "no text parameter",
        ),
        ({"target": {"node": "2", "input": "name"}, "parameters": ["angle", "prompt"]}, "target twice"),
    ],
)
def test_a_wrong_join_is_refused_at_load(joined: dict[str, Any], says: str) -> None:
    with pytest.raises((ConfigurationError, ValidationError)) as caught:
        template(joined=[joined])
    assert says in str(caught.value)


def test_values_of_a_choice_must_be_those_of_its_choices() -> None:
    parameters = manifest()["parameters"]
    parameters[3] = {**parameters[3], "values": {"front": "x"}}
    with pytest.raises(ValidationError, match="values must have each of its choices"):
        template(parameters=parameters)


def test_text_may_have_a_pattern() -> None:
    faces = get_template("face-swap-reactor")
    assert faces.render(image="a.png", face="b.png", image_faces="0,12").params["image_faces"] == "0,12"
    with pytest.raises(InvalidJob, match="that match") as caught:
        faces.render(image="a.png", face="b.png", image_faces="first")
    assert caught.value.field == "image_faces"
    parameters = manifest()["parameters"]
    parameters[2] = {**parameters[2], "pattern": "("}
    with pytest.raises(ValidationError, match="pattern"):
        template(parameters=parameters)


def test_a_fallback_is_left_out_where_it_would_be_no_help() -> None:
    subject = get_template("flux-dev")

    def fallbacks(**params: Any) -> list[str]:
        rendered = subject.render(**params)
        found = render_fallbacks(subject, rendered, params, internal=None, find=get_template)
        return [one.to for one in found]

    assert fallbacks(prompt="x") == ["z-image-turbo"]
    assert fallbacks(prompt="x", lora="") == ["z-image-turbo"]
    assert fallbacks(prompt="x", lora="me.safetensors") == []
    danrisi = get_template("z-image-danrisi")
    params = {"prompt": "x", "lora": "me.safetensors", "seed": 5}
    (simple,) = render_fallbacks(danrisi, danrisi.render(**params), params, internal=None, find=get_template)
    assert simple.workflow["11"]["inputs"]["lora_name"] == "me.safetensors"
    assert simple.seed == 5
    with pytest.raises(ValidationError, match="there is no parameter 'nope'"):
        template(fallbacks=[{"template": "sdxl", "unless": ["nope"]}])


def test_images_go_to_a_fallback_too() -> None:
    subject = get_template("character-sheet-pose")
    rule = {"template": "flux-pulid", "params": {"image": "face"}}
    other = Template(
        Manifest.model_validate({**subject.manifest.model_dump(exclude_none=True), "fallbacks": [rule]}),
        subject.workflow,
    )
    params = {"image": {"url": "https://example.org/a.png"}, "prompt": "x"}
    (found,) = render_fallbacks(other, other.render_with(params), params, internal=None, find=get_template)
    (image,) = found.images
    assert image.url == "https://example.org/a.png"
    assert found.faces == (image.name,)
    assert found.workflow["8"]["inputs"]["image"] == image.name
