"""The stand-in's checks of a prompt, against what ComfyUI answered."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.comfyui.validation import check, load_object_info, unknown_inputs, validate

DATA = Path(__file__).parents[2] / "data/comfyui"
INFO = load_object_info()


def recorded_prompt(name: str) -> dict[str, Any]:
    (about,) = json.loads((DATA / f"{name}.json").read_text())[-1]["body"].values()
    prompt: dict[str, Any] = about["prompt"][2]
    return prompt


def recorded_answer(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())[0]["body"]


SUCCESS = recorded_prompt("success")


def changed(**nodes: Any) -> dict[str, Any]:
    """The good prompt with inputs of nodes changed: `_2={"width": 5}`; None drops one."""
    prompt = copy.deepcopy(SUCCESS)
    for key, inputs in nodes.items():
        for name, value in inputs.items():
            if value is None:
                del prompt[key[1:]]["inputs"][name]
            else:
                prompt[key[1:]]["inputs"][name] = value
    return prompt


@pytest.mark.parametrize("name", ["success", "cached", "execution_error", "interrupted"])
def test_what_ran_is_valid(name: str) -> None:
    checked = check(recorded_prompt(name), INFO)
    assert (checked.error, checked.node_errors, checked.outputs) == (None, {}, ["4"])
    assert validate(recorded_prompt(name), INFO) == {}
    assert unknown_inputs(recorded_prompt(name), INFO) == {}


def test_the_recorded_refusals() -> None:
    failed = check(changed(_2={"upscale_method": "no-such"}), INFO)
    assert {"error": failed.error, "node_errors": failed.node_errors} == recorded_answer("validation_failed")

    prompt = copy.deepcopy(SUCCESS)
    prompt["3"]["class_type"] = "NoSuchNode"
    assert check(prompt, INFO).error == recorded_answer("unknown_node")["error"]
    assert list(validate(prompt, INFO)) == ["prompt"]

    del (prompt := copy.deepcopy(SUCCESS))["4"]
    assert check(prompt, INFO).error == recorded_answer("no_outputs")["error"]

    partly = check(recorded_prompt("partly_invalid"), INFO, inputs=["there.png"])
    assert partly.error is None
    assert partly.node_errors == recorded_answer("partly_invalid")["node_errors"]


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        ({"width": 20_000}, "value_bigger_than_max"),
        ({"width": -1}, "value_smaller_than_min"),
        ({"width": "wide"}, "invalid_input_type"),
        ({"width": None}, "required_input_missing"),
        ({"crop": "none"}, "value_not_in_list"),
        ({"image": ["1"]}, "bad_linked_input"),
        ({"image": ["1", 5]}, "exception_during_inner_validation"),
        ({"image": ["77", 0]}, "exception_during_inner_validation"),
        ({"width": ["1", 0]}, "return_type_mismatch"),
    ],
)
def test_each_kind_of_mistake(inputs: dict[str, Any], kind: str) -> None:
    errors = validate(changed(_2=inputs), INFO)
    assert {error["type"] for error in errors["2"]["errors"]} == {kind}
    assert errors["2"]["dependent_outputs"] == ["4"]


def test_a_choice_of_files_is_open_unless_the_files_are_told() -> None:
    prompt = {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "my.safetensors", "weight_dtype": "default"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    assert validate(prompt, INFO) == {}
    assert validate(prompt, INFO, files=["my.safetensors"]) == {}
    (error,) = validate(prompt, INFO, files=[])["1"]["errors"]
    assert (error["type"], error["extra_info"]["received_value"]) == ("value_not_in_list", "my.safetensors")


def test_a_vae_is_a_file_too() -> None:
    prompt = {
        "1": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    assert validate(prompt, INFO) == {}
    assert validate(prompt, INFO, files=["ae.safetensors"]) == {}
    assert validate(prompt, INFO, files=["another.safetensors"])


def test_renaming_any_input_of_a_good_prompt_is_found() -> None:
    for node_id, node in SUCCESS.items():
        for name in node["inputs"]:
            prompt = copy.deepcopy(SUCCESS)
            prompt[node_id]["inputs"][f"{name}_x"] = prompt[node_id]["inputs"].pop(name)
            assert validate(prompt, INFO), (node_id, name)
            assert unknown_inputs(prompt, INFO) == {node_id: [f"{name}_x"]}
