"""Our check of a workflow against a ComfyUI's nodes: each thing that it finds, in ComfyUI's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ryla_tasks.workflows import Manifest, Template, get_template
from ryla_tasks.workflows.checking import check_template
from ryla_tasks.workflows.nodes import check_nodes
from tests.support.comfyui.validation import check, load_object_info

NODES = load_object_info()
SDXL = get_template("sdxl").render(prompt="x", seed=1).workflow


def changed(node: str, **inputs: Any) -> dict[str, Any]:
    workflow = copy.deepcopy(SDXL)
    for name, value in inputs.items():
        if value is ...:
            del workflow[node]["inputs"][name]
        else:
            workflow[node]["inputs"][name] = value
    return workflow


@pytest.mark.parametrize(
    ("workflow", "kind", "place"),
    [
        (changed("5", steps=...), "required_input_missing", ("5", "steps")),
        (changed("5", steps=0), "value_smaller_than_min", ("5", "steps")),
        (changed("5", cfg=101.0), "value_bigger_than_max", ("5", "cfg")),
        (changed("5", steps="many"), "invalid_input_type", ("5", "steps")),
        (changed("5", sampler_name="eulr"), "value_not_in_list", ("5", "sampler_name")),
        (changed("5", model=["1", 1]), "return_type_mismatch", ("5", "model")),
        (changed("5", positive=["2"]), "bad_linked_input", ("5", "positive")),
    ],
)
def test_what_comfyui_refuses(workflow: dict[str, Any], kind: str, place: tuple[str, str]) -> None:
    (problem,) = check_nodes(workflow, NODES).problems
    assert (problem.kind, problem.node, problem.input) == (kind, *place)
    assert repr(place[1]) in problem.message
    said = check(workflow, NODES).node_errors[place[0]]["errors"]
    assert [error["type"] for error in said] == [kind]


def test_an_output_that_is_not_there_and_a_value_for_a_link() -> None:
    assert [one.kind for one in check_nodes(changed("5", model=["1", 7]), NODES).problems] == ["bad_linked_input"]
    assert [one.kind for one in check_nodes(changed("5", model="x"), NODES).problems] == ["invalid_input_type"]


def test_an_input_that_the_node_does_not_have_is_a_warning() -> None:
    found = check_nodes(changed("5", stepz=4), NODES)
    assert [one.kind for one in found.warnings] == ["unknown_input"]
    assert found.problems == ()


def test_missing_nodes_and_models() -> None:
    workflow = changed("1", ckpt_name="mine.safetensors")
    workflow["9"] = {"class_type": "Nope", "inputs": {"image": ["6", 0]}}
    found = check_nodes(workflow, NODES)
    assert found.missing_nodes == ("Nope",)
    assert [(model.file, model.node) for model in found.missing_models] == [("mine.safetensors", "1")]
    assert not found.ok
    there = copy.deepcopy(NODES)
    there["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = [["mine.safetensors"], {}]
    del workflow["9"]
    assert check_nodes(workflow, there).ok


def test_a_workflow_without_an_output() -> None:
    workflow = {node_id: node for node_id, node in SDXL.items() if node["class_type"] != "SaveImage"}
    assert [one.kind for one in check_nodes(workflow, NODES).problems] == ["prompt_no_outputs"]


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("steps", {"min": 0}, "less than the 1"),
        ("cfg", {"max": 200}, "more than the 100.0"),
        ("restore_model", {"choices": ["none", "GFPGANv1.5.pth"], "default": "none"}, "'GFPGANv1.5.pth'"),
    ],
)
def test_a_parameter_that_admits_more_than_its_node(name: str, changes: dict[str, Any], says: str) -> None:
    known = get_template("face-swap-reactor" if name == "restore_model" else "sdxl")
    described = known.manifest.model_dump(exclude_none=True)
    (parameter,) = (one for one in described["parameters"] if one["name"] == name)
    parameter |= changes
    found = check_template(Template(Manifest.model_validate(described), known.workflow), NODES)
    (problem,) = found.problems
    assert problem.kind == "parameter_out_of_bounds"
    assert says in problem.message
