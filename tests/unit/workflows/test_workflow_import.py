"""A first manifest for a workflow of the ComfyUI editor."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.errors import InvalidJob
from ryla_tasks.workflows import Manifest, Template, get_template, list_templates
from ryla_tasks.workflows.checking import check_template
from ryla_tasks.workflows.importing import guessed_manifest
from tests.support.comfyui.validation import load_object_info

NODES = load_object_info()
NAMES = [manifest.name for manifest in list_templates()]


def imported(workflow: Any) -> Template:
    return Template(Manifest.model_validate(guessed_manifest("mine", workflow)), workflow)


@pytest.mark.parametrize("name", NAMES)
def test_the_workflow_of_each_template_is_imported_and_fits(name: str) -> None:
    """As if somebody had built them in the editor: what was declared by hand is found again."""
    known = get_template(name)
    made = imported(known.workflow)
    found = check_template(made, NODES)
    assert (found.missing_nodes, found.problems, found.warnings) == ((), (), ())
    theirs = {target for parameter in made.manifest.parameters for target in parameter.targets}
    for parameter in known.manifest.parameters:
        if parameter.name in {
            "seed",
            "steps",
            "cfg",
            "guidance",
            "denoise",
            "width",
            "height",
            "image",
            "face",
            "mask",
        }:
            assert set(parameter.targets) <= theirs, parameter.name
    prompt = known.manifest.parameter("prompt")
    if prompt is not None and prompt.targets:
        mine = made.manifest.parameter("prompt")
        assert mine is not None
        assert mine.targets == prompt.targets
    assert made.manifest.output_nodes == known.manifest.output_nodes
    declared = {model for model in known.manifest.models if not model.implied}
    assert declared <= set(made.manifest.models)


def test_what_is_guessed() -> None:
    made = imported(get_template("sdxl").workflow).manifest
    assert [parameter.name for parameter in made.parameters] == [
        "prompt",
        "negative_prompt",
        "width",
        "height",
        "count",
        "steps",
        "cfg",
        "denoise",
        "seed",
        "lora",
        "lora_strength",
        "checkpoint",
        "filename_prefix",
    ]
    defaults = {parameter.name: parameter.default_value for parameter in made.parameters}
    assert (defaults["steps"], defaults["cfg"], defaults["width"]) == (30, 7.0, 1024)
    assert (made.batch_parameter, made.images) == ("count", 1)
    assert [part.parameter for part in made.optional] == ["lora"]


def test_an_imported_one_renders_to_what_it_was() -> None:
    workflow = get_template("z-image-danrisi").workflow
    rendered = imported(workflow).render(prompt="a", seed=0)
    workflow["4"]["inputs"]["text"] = "a"
    assert rendered.workflow == workflow
    assert rendered.expected_images == 1


def test_two_of_a_kind_have_names_of_their_own() -> None:
    workflow = {
        **get_template("face-swap-reactor").workflow,
        "8": {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["9", 0], "lora_name": "a.safetensors"}},
        "9": {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["7", 0], "lora_name": "b.safetensors"}},
        "7": {"class_type": "UNETLoader", "inputs": {"unet_name": "u.safetensors", "weight_dtype": "default"}},
    }
    made = imported(workflow).manifest
    names = [parameter.name for parameter in made.parameters]
    assert {"image", "image_2", "lora", "lora_2", "model"} <= set(names)
    bare = imported(workflow).render(image="a.png", image_2="b.png", lora="", lora_2="").workflow
    assert not {"8", "9"} & bare.keys()


@pytest.mark.parametrize(
    ("workflow", "says"),
    [
        ({"nodes": [], "links": [], "version": 0.4}, "Workflow > Export (API)"),
        ({"prompt": {"1": {"class_type": "A", "inputs": {}}}}, "inside 'prompt'"),
        ({}, "it is empty"),
        ([], "not list"),
        ({"1": {"class_type": "A"}}, "has no inputs"),
    ],
)
def test_what_is_not_in_api_format_is_refused(workflow: Any, says: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        guessed_manifest("mine", workflow)
    assert says in str(caught.value)


values = st.text(max_size=5) | st.integers(-3, 5000) | st.floats(-2, 200) | st.booleans() | st.none()
SEEN = {name for one in NAMES for node in get_template(one).workflow.values() for name in node["inputs"]}
names = st.sampled_from(sorted({*SEEN, "noise_seed", "unet_name"}))
classes = st.sampled_from(["KSampler", "EmptyImage", "LoadImage", "LoraLoader", "CLIPTextEncode", "SaveImage", "X"])


@given(st.data())
def test_whatever_is_a_workflow_becomes_a_template_that_loads(data: st.DataObject) -> None:
    ids = [str(number) for number in range(data.draw(st.integers(1, 5)))]
    links = st.tuples(st.sampled_from(ids), st.integers(0, 2)).map(list)
    files = st.sampled_from(["a.safetensors", "b.pth"])
    inputs = st.dictionaries(names, values | links | files, max_size=6)
    workflow = {one: {"class_type": data.draw(classes), "inputs": data.draw(inputs)} for one in ids}
    made = imported(workflow)
    assert json.loads(json.dumps(made.manifest.model_dump(mode="json")))["name"] == "mine"
