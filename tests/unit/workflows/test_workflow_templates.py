from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.errors import ConfigurationError, InvalidJob, UnknownTemplate
from ryla_tasks.workflows import Manifest, Template, get_template, library, list_templates, load_template

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "Text", "inputs": {"text": "old", "style": "plain", "loud": False}},
    "2": {"class_type": "Sample", "inputs": {"seed": 1, "seed2": 1, "steps": 4, "cfg": 1.0, "text": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}


def parameter(name: str, kind: str, *targets: tuple[str, str], **more: Any) -> dict[str, Any]:
    places = [{"node": node, "input": key} for node, key in targets]
    return {"name": name, "type": kind, "description": f"The {name}.", "targets": places, **more}


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "sample",
        "title": "Sample",
        "description": "For tests.",
        "parameters": [
            parameter("prompt", "text", ("1", "text"), required=True, min_length=1),
            parameter("style", "choice", ("1", "style"), choices=["plain", "wild", 1, 2.5], default="plain"),
            parameter("loud", "bool", ("1", "loud"), default=False),
            parameter("seed", "seed", ("2", "seed"), ("2", "seed2")),
            parameter("steps", "int", ("2", "steps"), min=4, max=40, step=4, default=8),
            parameter("cfg", "float", ("2", "cfg"), min=0, max=10, step=0.1, default=1.0),
            parameter("prefix", "text", ("3", "filename_prefix"), internal=True, default="ryla"),
        ],
        "nodes": ["Text", "Sample", "SaveImage"],
        "models": [],
        "output_nodes": ["3"],
        "images": 2,
        "expected_seconds": 5,
        **changes,
    }


def template(**changes: Any) -> Template:
    return Template(Manifest.model_validate(manifest(**changes)), WORKFLOW)


def write(folder: Path, described: Any, workflow: Any = WORKFLOW) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(described if isinstance(described, str) else json.dumps(described))
    (folder / "workflow.json").write_text(workflow if isinstance(workflow, str) else json.dumps(workflow))
    return folder


hostile = st.sampled_from(
    ['"', "{prompt}", "{{prompt}}", "%prompt%", "%s", "\\", '","seed":1', "${x}", "\n\0", "['2', 0]"]
)
prompts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30) | hostile
valid = st.fixed_dictionaries(
    {"prompt": prompts},
    optional={
        "style": st.sampled_from(["plain", "wild", 1, 2.5, None]),
        "loud": st.booleans() | st.none(),
        "seed": st.integers(0, 2**64 - 1) | st.none(),
        "steps": st.integers(1, 10).map(lambda n: n * 4) | st.none(),
        "cfg": st.integers(0, 100).map(lambda n: n / 10) | st.integers(0, 10) | st.none(),
    },
)


@given(valid)
def test_rendering_changes_the_targets_and_nothing_else(params: dict[str, Any]) -> None:
    subject = template()
    rendered = subject.render(**params)
    wanted = copy.deepcopy(WORKFLOW)
    values = {**rendered.params, "prefix": "ryla"}
    for name, node, key in [
        ("prompt", "1", "text"),
        ("style", "1", "style"),
        ("loud", "1", "loud"),
        ("seed", "2", "seed"),
        ("seed", "2", "seed2"),
        ("steps", "2", "steps"),
        ("cfg", "2", "cfg"),
        ("prefix", "3", "filename_prefix"),
    ]:
        wanted[node]["inputs"][key] = values[name]
    assert rendered.workflow == wanted
    assert json.loads(json.dumps(rendered.workflow)) == wanted
    assert {name: rendered.params[name] for name, value in params.items() if value is not None} == {
        name: value for name, value in params.items() if value is not None
    }
    assert subject.workflow == WORKFLOW
    assert subject.render(**rendered.params).workflow == rendered.workflow


@given(prompts, st.integers(0, 2**64 - 1), st.integers(4, 128), st.integers(1, 8))
def test_the_built_in_template_too(prompt: str, seed: int, sixteens: int, count: int) -> None:
    subject = get_template("z-image-turbo")
    source = subject.render(prompt="x", seed=0).workflow
    rendered = subject.render(prompt=prompt, seed=seed, width=sixteens * 16, count=count)
    assert (rendered.seed, rendered.expected_images) == (seed, count)
    assert rendered.workflow["5"]["inputs"]["text"] == prompt
    changed = {
        (node, key)
        for node in source
        for key in source[node]["inputs"]
        if rendered.workflow[node]["inputs"][key] != source[node]["inputs"][key]
    }
    assert changed <= {("5", "text"), ("7", "width"), ("7", "batch_size"), ("8", "seed")}
    assert rendered.workflow.keys() == source.keys()


@given(
    st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9))
)
def test_anything_else_is_an_invalid_job_that_names_the_field(params: dict[str, Any]) -> None:
    try:
        rendered = template().render_with({"prompt": "x", **params})
    except InvalidJob as error:
        assert error.field in {"prompt", *params}  # noqa: PT017 - both outcomes are right
    else:
        json.dumps(rendered.workflow, allow_nan=False)


def test_changing_a_rendered_workflow_leaves_the_template() -> None:
    subject = template()
    subject.render(prompt="a").workflow["1"]["inputs"]["text"] = "changed"
    subject.workflow["1"]["inputs"]["text"] = "changed"
    assert subject.workflow == WORKFLOW


def test_a_seed_is_drawn_when_absent_and_reported() -> None:
    asked = []

    def draw(largest: int) -> int:
        asked.append(largest)
        return 77

    rendered = template().render_with({"prompt": "x"}, draw=draw)
    assert asked == [2**53 - 1]
    assert rendered.seed == rendered.params["seed"] == 77
    assert [rendered.workflow["2"]["inputs"][key] for key in ("seed", "seed2")] == [77, 77]
    assert template().render(prompt="x", seed=0).seed == 0
    assert len({template().render(prompt="x").seed for _ in range(5)}) > 1


def test_internal_parameters_are_for_the_library_alone() -> None:
    rendered = template().render_with({"prompt": "x"}, internal={"prefix": "job1", "prompt": "y", "other": 1})
    assert rendered.workflow["3"]["inputs"]["filename_prefix"] == "job1"
    assert rendered.workflow["1"]["inputs"]["text"] == "x"
    assert "prefix" not in rendered.params
    with pytest.raises(InvalidJob, match="no parameter 'prefix'"):
        template().render(prompt="x", prefix="mine")


def test_a_batch_parameter_multiplies_the_images() -> None:
    subject = template(batch_parameter="steps")
    assert subject.render(prompt="x", steps=12).expected_images == 24
    assert template().render(prompt="x").expected_images == 2


@pytest.mark.parametrize(
    ("params", "field", "says"),
    [
        ({}, "prompt", "prompt is required: The prompt."),
        ({"prompt": None}, "prompt", "required"),
        ({"prompt": ""}, "prompt", "text of 1 to"),
        ({"prompt": 5}, "prompt", "5 is not text"),
        ({"prompt": "\ud800"}, "prompt", "text of 1"),
        ({"steps": 6}, "steps", "6 is not a whole number from 4 to 40 in steps of 4"),
        ({"steps": 44}, "steps", "from 4 to 40"),
        ({"steps": 8.0}, "steps", "8.0"),
        ({"steps": True}, "steps", "True"),
        ({"steps": "8"}, "steps", "whole number"),
        ({"cfg": 0.15}, "cfg", "in steps of 0.1"),
        ({"cfg": float("nan")}, "cfg", "nan is not a number from 0 to 10"),
        ({"cfg": float("inf")}, "cfg", "inf"),
        ({"cfg": 10**400}, "cfg", "number"),
        ({"seed": -1}, "seed", "leave it out for a random one"),
        ({"seed": 2**64}, "seed", "18446744073709551615"),
        ({"loud": 1}, "loud", "true or false"),
        ({"style": "mild"}, "style", "one of 'plain', 'wild', 1, 2.5"),
        ({"style": True}, "style", "one of"),
        ({"style": []}, "style", "the list given"),
        ({"stepz": 8}, "stepz", "did you mean 'steps'?"),
        ({"xyz": 8}, "xyz", "it has: prompt, style, loud, seed, steps, cfg"),
    ],
)
def test_wrong_parameters(params: dict[str, Any], field: str, says: str) -> None:
    given_all = {"prompt": "x", **params} if params else {}
    with pytest.raises(InvalidJob) as caught:
        template().render_with(given_all)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_a_refused_prompt_is_not_repeated() -> None:
    subject = template(parameters=[parameter("prompt", "text", ("1", "text"), required=True, max_length=3)])
    with pytest.raises(InvalidJob, match="the text of 6 characters given") as caught:
        subject.render(prompt="secret")
    assert "secret" not in str(caught.value)


BAD_PARAMETERS = [
    (parameter("p", "text", ("9", "text"), default=""), "node '9' is not in the workflow"),
    (parameter("p", "text", ("1", "txt"), default=""), "no input 'txt'"),
    (parameter("p", "text", ("2", "text"), default=""), "link to another node"),
    (parameter("p", "int", ("1", "text"), min=0, max=1, default=0), "holds no int"),
    (parameter("p", "int", ("1", "loud"), min=0, max=1, default=0), "holds no int"),
    (parameter("p", "text", default=""), "targets"),
    (parameter("p", "text", ("1", "text")), "required or have a default"),
    (parameter("p", "text", ("1", "text"), required=True, default="x"), "required or have a default"),
    (parameter("p", "int", ("2", "steps"), min=0, max=5, default=6), "6 is not a whole number"),
    (parameter("p", "int", ("2", "steps"), min=0, max="5", default=1), "max"),
    (parameter("p", "choice", ("1", "style"), choices=["a"], default="b"), "one of 'a'"),
    (parameter("p", "lora", ("1", "style")), "lora"),
    (parameter("p", "seed", ("2", "seed"), required=True), "neither required nor internal"),
    (parameter("P!", "text", ("1", "text"), default=""), "name"),
    (parameter("p", "text", ("1", "text"), ("1", "text"), default=""), "target twice"),
    (parameter("p", "text", ("1", "text"), default="", maxlen=3), "maxlen"),
]


@pytest.mark.parametrize(("wrong", "says"), BAD_PARAMETERS)
def test_a_wrong_parameter_is_refused_at_load(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    folder = write(tmp_path / "sample", manifest(parameters=[wrong]))
    with pytest.raises(ConfigurationError) as caught:
        load_template(folder)
    assert says in str(caught.value)
    assert "sample" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "other"}, "not that of its folder"),
        ({"format": 2}, "format"),
        ({"output_nodes": ["7"]}, "output node '7'"),
        ({"output_nodes": []}, "output_nodes"),
        ({"nodes": ["Text", "SaveImage"]}, "differ in Sample"),
        ({"nodes": ["Text", "SaveImage", "Sample", "Extra"]}, "differ in Extra"),
        ({"models": [{"folder": "vae", "file": "gone.safetensors"}]}, "'gone.safetensors' is not in the workflow"),
        ({"models": [{"folder": "../vae", "file": "plain"}]}, "folder"),
        ({"batch_parameter": "prompt"}, "not one of the int"),
        ({"batch_parameter": "nope"}, "not one of the int"),
        ({"expected_seconds": 0}, "expected_seconds"),
        ({"surprise": 1}, "surprise"),
        ({"parameters": [parameter("a", "seed", ("2", "seed")), parameter("b", "seed", ("2", "seed2"))]}, "one seed"),
        (
            {"parameters": [parameter("a", "seed", ("2", "seed")), parameter("a", "seed", ("2", "seed2"))]},
            "there twice",
        ),
    ],
)
def test_a_wrong_manifest_is_refused_at_load(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_template(write(tmp_path / "sample", manifest(**changes)))
    assert says in str(caught.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    cases = {
        "manifest.json: not JSON": write(tmp_path / "a" / "sample", "{"),
        "workflow.json: not JSON": write(tmp_path / "b" / "sample", manifest(), "nope"),
        "workflow.json: a workflow is": write(tmp_path / "c" / "sample", manifest(), []),
        "linked to node '1'": write(tmp_path / "d" / "sample", manifest(), {k: WORKFLOW[k] for k in "23"}),
    }
    missing = write(tmp_path / "e" / "sample", manifest())
    (missing / "workflow.json").unlink()
    for says, folder in {**cases, "No such file": missing}.items():
        with pytest.raises(ConfigurationError, match=says):
            load_template(folder)


def test_an_unknown_template_lists_the_names_with_a_hint(tmp_path: Path) -> None:
    write(tmp_path / "sample", manifest())
    with pytest.raises(UnknownTemplate) as caught:
        get_template("z-imagturbo", tmp_path)
    assert caught.value.field == "template"
    assert "did you mean 'z-image-turbo'?" in str(caught.value)
    assert "sample, sdxl, z-image-danrisi, z-image-turbo" in str(caught.value)
    wrong: Any
    for wrong in ("../builtin/z-image-turbo", "", None, ["z-image-turbo"]):
        with pytest.raises(UnknownTemplate):
            get_template(wrong)


def test_the_users_folder_adds_and_goes_first(tmp_path: Path) -> None:
    own = manifest(name="z-image-turbo", title="Mine")
    write(tmp_path / "z-image-turbo", own)
    write(tmp_path / "sample", manifest())
    (tmp_path / "notes").mkdir()
    names = [found.name for found in list_templates()]
    assert [found.name for found in list_templates(tmp_path)] == sorted(["sample", *names])
    assert get_template("z-image-turbo", tmp_path).manifest.title == "Mine"
    assert get_template("z-image-turbo").manifest.title == "Z-Image-Turbo"
    with pytest.raises(ConfigurationError, match="does not exist"):
        get_template("sample", tmp_path / "nowhere")


def test_a_broken_neighbour_does_not_matter_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "broken", "{")
    folder = write(tmp_path / "sample", manifest())
    first = get_template("sample", tmp_path)
    assert get_template("sample", tmp_path) is first
    write(folder, manifest(title="Changed"))
    os.utime(folder / "manifest.json", ns=(1, 1))
    assert get_template("sample", tmp_path).manifest.title == "Changed"


def test_a_built_in_template_can_be_copied_and_changed(tmp_path: Path) -> None:
    shutil.copytree(library._BUILTIN / "z-image-turbo", tmp_path / "z-image-turbo")
    assert get_template("z-image-turbo", tmp_path).manifest == get_template("z-image-turbo").manifest
