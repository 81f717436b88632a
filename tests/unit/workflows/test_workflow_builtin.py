"""The built-in templates and the counting rules, held against what a real ComfyUI (0.3.64) says of its nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ryla_tasks.workflows import Template, counting, expected_images, find_seed, get_template, list_templates
from ryla_tasks.workflows.parameters import IntParameter
from ryla_tasks.workflows.workflow import is_link

DATA = Path(__file__).parents[2] / "data" / "comfyui"
NODES: dict[str, Any] = json.loads((DATA / "object_info_subset.json").read_text())
NAMES = [manifest.name for manifest in list_templates()]


def declared(class_type: str) -> dict[str, Any]:
    inputs = NODES[class_type]["input"]
    return {**inputs.get("required", {}), **inputs.get("optional", {})}


@pytest.fixture(params=NAMES)
def template(request: pytest.FixtureRequest) -> Template:
    return get_template(request.param)


def test_there_is_z_image_turbo() -> None:
    assert "z-image-turbo" in NAMES


def test_every_node_and_input_exists_and_none_is_missing(template: Template) -> None:
    for node_id, node in template.workflow.items():
        known = declared(node["class_type"])
        required = set(NODES[node["class_type"]]["input"].get("required", {}))
        assert node["inputs"].keys() <= known.keys(), node_id
        assert required <= node["inputs"].keys(), node_id


def test_links_carry_the_type_that_the_input_takes(template: Template) -> None:
    workflow = template.workflow
    links = 0
    for node in workflow.values():
        for name, value in node["inputs"].items():
            if is_link(value):
                links += 1
                source = NODES[workflow[value[0]]["class_type"]]
                assert source["output"][value[1]] == declared(node["class_type"])[name][0]
    assert links >= len(workflow) - 1


def test_values_are_of_the_kind_and_range_that_the_node_takes(template: Template) -> None:
    files = {model.file for model in template.manifest.models}
    for node in template.workflow.values():
        for name, value in node["inputs"].items():
            kind, *options = declared(node["class_type"])[name]
            if is_link(value) or value in files:
                continue
            if isinstance(kind, list):
                assert value in kind
            elif kind in {"INT", "FLOAT"}:
                assert options[0]["min"] <= value <= options[0]["max"]
            else:
                assert (kind, type(value)) in {("STRING", str), ("BOOLEAN", bool)}


def test_parameters_stay_within_what_their_nodes_take(template: Template) -> None:
    for parameter in template.manifest.parameters:
        for target in parameter.targets:
            spec = declared(template.workflow[target.node]["class_type"])[target.input]
            if isinstance(parameter, IntParameter):
                assert spec[0] == "INT"
                assert spec[1]["min"] <= parameter.min <= parameter.max <= spec[1]["max"]
                assert parameter.step % spec[1].get("step", 1) == 0
                assert parameter.min % spec[1].get("step", 1) == 0
            if parameter.type == "seed":
                assert parameter.max <= spec[1]["max"]


def test_output_nodes_are_output_nodes(template: Template) -> None:
    workflow = template.workflow
    outputs = {node_id for node_id, node in workflow.items() if NODES[node["class_type"]]["output_node"]}
    assert outputs == set(template.manifest.output_nodes)


def test_manifest_and_counting_agree(template: Template) -> None:
    for count in (1, 3):
        rendered = template.render(prompt="x", count=count)
        assert rendered.expected_images == expected_images(rendered.workflow) == count
        assert rendered.seed == find_seed(rendered.workflow)


def test_counting_rules_name_real_nodes_and_inputs() -> None:
    rules = [*counting._ONE_TO_ONE.items(), *counting._REPEATERS.items()]
    rules += [(kind, name) for kind, names in counting._JOINERS.items() for name in names]
    rules += [(kind, "batch_size") for kind in counting._SOURCES_OF_BATCH]
    rules += [(kind, "amount") for kind in counting._REPEATERS]
    rules += [(kind, "images") for kind in counting._SAVERS]
    for kind, name in rules:
        assert name in declared(kind), kind
    assert all(NODES[kind]["output_node"] for kind in counting._SAVERS | counting._SAVERS_OF_ONE | counting._SILENT)
    assert not any(NODES[kind]["output_node"] for kind in counting._NOT_OUTPUTS)
