"""The built-in templates and the counting rules, held against what a real ComfyUI (0.3.64) says of its nodes.

Two checks made apart from each other look at them: the stand-in ComfyUI's, and our own for `ryla workflows check`.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryla_tasks.simulator.programs.painter import paint
from ryla_tasks.simulator.programs.workflow import Picture
from ryla_tasks.workflows import (
    ImageParameter,
    Manifest,
    RenderedWorkflow,
    Template,
    counting,
    expected_images,
    find_seed,
    get_template,
    list_templates,
    model_files,
)
from ryla_tasks.workflows.checking import check_template, sample
from ryla_tasks.workflows.nodes import check_nodes
from ryla_tasks.workflows.page import page
from ryla_tasks.workflows.parameters import (
    BoolParameter,
    ChoiceParameter,
    FloatParameter,
    IntParameter,
    Parameter,
    SeedParameter,
    TextParameter,
)
from ryla_tasks.workflows.workflow import is_link
from tests.support.comfyui.validation import load_object_info, unknown_inputs, validate

DOCS = Path(__file__).parents[3] / "docs"
NODES: dict[str, Any] = load_object_info()
# An installation without VAEs still lists one word, which makes the stand-in take the list for whole.
NODES["VAELoader"]["input"]["required"]["vae_name"] = [[]]
NAMES = [manifest.name for manifest in list_templates()]
TEMPLATES = {name: get_template(name) for name in NAMES}
PNG = base64.b64encode(paint(Picture("a face", "", 1, 16, 16, 1, 0, "face.png", "3"))).decode()
WITHOUT_A_MODEL = {"face-swap-reactor"}


def declared(class_type: str) -> dict[str, Any]:
    inputs = NODES[class_type]["input"]
    return {**inputs.get("required", {}), **inputs.get("optional", {})}


def complaints(workflow: dict[str, Any]) -> list[str]:
    """What the two checks say of a workflow, model files aside: the recorded ComfyUI has none."""
    found = check_nodes(workflow, NODES)
    ours = [*found.missing_nodes, *(one.message for one in (*found.problems, *found.warnings))]
    theirs = [f"{node}: {said}" for node, said in validate(workflow, NODES).items()]
    theirs += [f"{node}: {names}" for node, names in unknown_inputs(workflow, NODES).items()]
    assert bool(ours) == bool(theirs), (ours, theirs)
    return ours


def variants(template: Template) -> Iterator[RenderedWorkflow]:
    """Rendered with every optional part on and off, and every other yes or no, in all combinations."""
    manifest = template.manifest
    required = {one.name: sample(one) for one in manifest.parameters if one.required}
    bools = {one.name for one in manifest.parameters if isinstance(one, BoolParameter)}
    switches = sorted({part.parameter for part in manifest.optional} | bools)
    for state in itertools.product((False, True), repeat=len(switches)):
        chosen = {name: _set(manifest.parameter(name), on=on) for name, on in zip(switches, state, strict=True)}
        yield template.render_with({**required, **chosen})


def _set(parameter: Parameter | None, *, on: bool) -> Any:
    assert parameter is not None
    return on if isinstance(parameter, BoolParameter) else sample(parameter) if on else ""


@pytest.fixture(params=NAMES)
def template(request: pytest.FixtureRequest) -> Template:
    return TEMPLATES[request.param]


def test_the_templates() -> None:
    assert {
        "z-image-turbo",
        "z-image-danrisi",
        "flux-dev",
        "flux-pulid",
        "sdxl",
        "face-swap-reactor",
        "face-swap-faceid",
        "character-sheet-pose",
        "inpaint",
    } == set(NAMES)


def test_every_variant_is_what_comfyui_takes(template: Template) -> None:
    count = 0
    for rendered in variants(template):
        count += 1
        assert complaints(rendered.workflow) == []
    assert count >= 2
    assert count == 2 ** len(_switches(template))


def _switches(template: Template) -> set[str]:
    bools = {one.name for one in template.manifest.parameters if isinstance(one, BoolParameter)}
    return {part.parameter for part in template.manifest.optional} | bools


def test_the_check_of_a_template_finds_nothing_but_models(template: Template) -> None:
    found = check_template(template, NODES)
    assert (found.missing_nodes, found.problems, found.warnings) == ((), (), ())
    assert {model.file for model in found.missing_models} <= {model.file for model in template.manifest.models}


def test_renaming_any_input_of_a_template_is_noticed(template: Template) -> None:
    renamed = set()
    for rendered in variants(template):
        for node_id, node in rendered.workflow.items():
            for name in node["inputs"]:
                wrong = copy.deepcopy(rendered.workflow)
                wrong[node_id]["inputs"][f"{name}_"] = wrong[node_id]["inputs"].pop(name)
                assert complaints(wrong), (node_id, name)
                renamed.add((node_id, name))
    assert renamed == {(node_id, name) for node_id, node in template.workflow.items() for name in node["inputs"]}


def test_any_other_class_or_output_is_noticed(template: Template) -> None:
    for rendered in variants(template):
        for node_id, node in rendered.workflow.items():
            wrong = copy.deepcopy(rendered.workflow)
            wrong[node_id]["class_type"] += "X"
            assert complaints(wrong)
            for name, value in node["inputs"].items():
                if is_link(value):
                    wrong = copy.deepcopy(rendered.workflow)
                    wrong[node_id]["inputs"][name] = [value[0], 9]
                    assert complaints(wrong), (node_id, name)


def test_without_a_lora_there_is_no_node_for_one(template: Template) -> None:
    required = {one.name: sample(one) for one in template.manifest.parameters if one.required}
    without = template.render_with(required).workflow
    assert not any(node["class_type"].startswith("LoraLoader") for node in without.values())
    assert not any("lora" in file for file in model_files(without))
    if template.name in WITHOUT_A_MODEL:
        assert template.manifest.parameter("lora") is None
        return
    rendered = template.render_with({**required, "lora": "me.safetensors", "lora_strength": 0.5})
    (loader,) = (node for node in rendered.workflow.values() if node["class_type"] == "LoraLoader")
    assert loader["inputs"]["lora_name"] == "me.safetensors"
    assert [loader["inputs"][name] for name in ("strength_model", "strength_clip")] == [0.5, 0.5]
    assert "me.safetensors" in model_files(rendered.workflow)
    (lora_id,) = rendered.workflow.keys() - without.keys()
    users = [node for node in rendered.workflow.values() for one in node["inputs"].values() if one == [lora_id, 0]]
    assert users, "the model goes through it"
    assert any([lora_id, 1] in node["inputs"].values() for node in rendered.workflow.values()), "the text encoder too"


def test_values_are_of_the_kind_and_range_that_the_node_takes(template: Template) -> None:
    files = {model.file for model in template.manifest.models} | {"lora.safetensors"}
    for node in template.workflow.values():
        for name, value in node["inputs"].items():
            kind, *options = declared(node["class_type"])[name]
            if is_link(value) or value in files:
                continue
            if isinstance(kind, list):
                assert value in kind or (options and options[0].get("image_upload"))
            elif kind in {"INT", "FLOAT"}:
                assert isinstance(value, int if kind == "INT" else float)
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
            if isinstance(parameter, FloatParameter):
                assert spec[0] == "FLOAT"
                assert spec[1]["min"] <= parameter.min <= parameter.max <= spec[1]["max"]
            if parameter.type == "seed":
                assert parameter.max <= spec[1]["max"]
            if isinstance(parameter, ImageParameter):
                assert spec[1]["image_upload"]


def value_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values that the parameter admits."""
    match parameter:
        case TextParameter(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= parameter.max_length)
        case TextParameter():
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=parameter.min_length, max_size=30)
        case IntParameter():
            most = (parameter.max - parameter.min) // parameter.step
            return st.integers(0, most).map(lambda n: parameter.min + n * parameter.step)
        case FloatParameter(step=None):
            return st.floats(parameter.min, parameter.max)
        case FloatParameter(step=float(step)):
            return st.integers(0, int((parameter.max - parameter.min) / step + 1e-9)).map(
                lambda n: min(parameter.min + n * step, parameter.max)
            )
        case SeedParameter():
            return st.integers(0, parameter.max)
        case ChoiceParameter():
            return st.sampled_from(parameter.choices)
        case ImageParameter():
            forms = st.sampled_from(["in.png", "sub/in.webp", {"url": "https://example.org/a.jpg?x=1"}, {"image": PNG}])
            return forms if parameter.required else forms | st.just("")
    return st.booleans()


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_whatever_is_admitted_renders_to_what_comfyui_takes(data: st.DataObject) -> None:
    subject = TEMPLATES[data.draw(st.sampled_from(NAMES))]
    strategies = {one.name: value_of(one) for one in subject.manifest.parameters if not one.internal}
    optional = {one.name for one in subject.manifest.parameters if not one.required}
    params = data.draw(
        st.fixed_dictionaries(
            {name: each for name, each in strategies.items() if name not in optional},
            optional={name: each for name, each in strategies.items() if name in optional},
        )
    )
    rendered = subject.render_with(params)
    # A file that is named without an ending is none that the stand-in knows for one.
    names = {one.name for one in subject.manifest.parameters if one.name in _FILES}
    checkable = subject.render_with({**params, **{name: "some.safetensors" for name in names if params.get(name)}})
    assert complaints(checkable.workflow) == []
    assert {name: rendered.params[name] for name in params} == params
    assert subject.render_with(rendered.params).workflow == rendered.workflow
    sent = {image.name for image in rendered.images if image.to_json()}
    loaded = {node["inputs"]["image"] for node in rendered.workflow.values() if node["class_type"].startswith("LoadIm")}
    assert loaded == {image.name for image in rendered.images}
    assert sent <= loaded
    assert set(rendered.faces) <= loaded
    assert rendered.expected_images == expected_images(rendered.workflow)
    assert rendered.seed == find_seed(rendered.workflow)


_FILES = {"lora", "model", "text_encoder", "checkpoint", "controlnet"}


def test_output_nodes_are_output_nodes(template: Template) -> None:
    workflow = template.workflow
    outputs = {node_id for node_id, node in workflow.items() if NODES[node["class_type"]]["output_node"]}
    assert outputs == set(template.manifest.output_nodes)


def test_the_manifest_names_all_model_files(template: Template) -> None:
    named = {model.file for model in template.manifest.models if not model.implied}
    known = {node["inputs"].get("lora_name") for node in template.workflow.values()}
    fixed = {
        option
        for node in template.workflow.values()
        for name in node["inputs"]
        for option in _options(node["class_type"], name)
    }
    # Detectors that a preprocessor brings itself are no files of ours.
    assert set(model_files(template.workflow)) - known - named <= fixed


def _options(class_type: str, name: str) -> list[Any]:
    kind = declared(class_type)[name][0]
    return kind if isinstance(kind, list) else []


def test_each_has_what_all_have(template: Template) -> None:
    manifest = template.manifest
    prefix = manifest.parameter("filename_prefix")
    assert prefix is not None
    assert prefix.internal
    assert len(manifest.description) > 60
    assert 5 <= manifest.expected_seconds <= 60


def test_manifest_and_counting_agree(template: Template) -> None:
    required = {one.name: sample(one) for one in template.manifest.parameters if one.required}
    for count in (1, 3) if template.manifest.batch_parameter else (1,):
        more = {"count": count} if template.manifest.batch_parameter else {}
        rendered = template.render_with({**required, **more})
        assert rendered.expected_images == expected_images(rendered.workflow) == count
        assert rendered.seed == find_seed(rendered.workflow)


@pytest.mark.parametrize("angle", ["front", "back", "full-body"])
def test_the_angle_of_a_sheet_becomes_words_before_the_prompt(angle: str) -> None:
    rendered = TEMPLATES["character-sheet-pose"].render(image="a.png", angle=angle, prompt="a {man}")
    manifest = TEMPLATES["character-sheet-pose"].manifest
    choice = manifest.parameter("angle")
    assert isinstance(choice, ChoiceParameter)
    assert choice.values is not None
    assert rendered.workflow["2"]["inputs"]["text"] == f"{choice.values[angle]}, a {{man}}"
    assert rendered.params["angle"] == angle
    empty = TEMPLATES["character-sheet-pose"].render(image="a.png", angle=angle, prompt="")
    assert empty.workflow["2"]["inputs"]["text"] == choice.values[angle]


def test_a_sheet_finds_the_pose_of_a_photograph_and_takes_a_drawn_one_as_it_is() -> None:
    subject = TEMPLATES["character-sheet-pose"]

    def classes(**params: Any) -> set[str]:
        return {node["class_type"] for node in subject.render(image="a.png", **params).workflow.values()}

    posed = {"LoadImage", "ControlNetLoader", "SetUnionControlNetType", "ControlNetApplyAdvanced"}
    assert not classes() & (posed - {"LoadImage"})
    assert classes(pose="p.png") >= posed | {"DWPreprocessor"}
    drawn = subject.render(image="a.png", pose="p.png", find_pose=False).workflow
    assert drawn["13"]["inputs"]["image"] == ["9", 0]
    assert "10" not in drawn
    assert subject.render(image="a.png").workflow["15"]["inputs"]["positive"] == ["2", 0]


def test_a_mask_may_be_the_transparent_part_of_the_picture() -> None:
    subject = TEMPLATES["inpaint"]
    own = subject.render(image="a.png", mask="m.png", prompt="x").workflow
    assert own["9"]["inputs"]["mask"] == ["8", 0]
    assert own["8"]["inputs"]["image"] == "m.png"
    transparent = subject.render(image="a.png", prompt="x").workflow
    assert transparent["9"]["inputs"]["mask"] == ["7", 1]


def test_fallbacks_of_the_built_in_templates() -> None:
    """Each costs its job a second input in Redis, so there are few, and none whose picture would be another's."""
    taken = {name: [(rule.template, rule.unless) for rule in one.manifest.fallbacks] for name, one in TEMPLATES.items()}
    assert {name: rules for name, rules in taken.items() if rules} == {
        "flux-dev": [("z-image-turbo", ("lora",))],
        "z-image-danrisi": [("z-image-turbo", ())],
    }


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


def test_the_page_of_templates_is_not_stale() -> None:
    """Make it anew with `python -m ryla_tasks.workflows > docs/templates.md`."""
    assert (DOCS / "templates.md").read_text() == page()


def test_the_docs_name_each_template_with_the_packs_that_it_needs(template: Template) -> None:
    (row,) = (
        line for line in (DOCS / "workflows.md").read_text().splitlines() if line.startswith(f"| `{template.name}`")
    )
    modules = {NODES[name]["python_module"] for name in template.manifest.nodes}
    packs = {name.removeprefix("custom_nodes.") for name in modules if name.startswith("custom_nodes.")}
    assert {pack.strip() for pack in row.split("|")[3].split(",") if pack.strip()} == packs


def test_the_manifest_in_the_docs_is_one() -> None:
    text = (DOCS / "workflows.md").read_text()
    described = json.loads(text.partition("```json\n")[2].partition("```")[0])
    nodes = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
        "8": {"class_type": "LoraLoader", "inputs": {"model": ["1", 0], "clip": ["1", 1], "lora_name": "x"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["8", 1]}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {"steps": 1, "seed": 0, "model": ["8", 0], "positive": ["2", 0]}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "x"}},
    }
    rendered = Template(Manifest.model_validate(described), nodes).render(prompt="a cat", style="ink")
    assert rendered.workflow["2"]["inputs"] == {"text": "an ink drawing, a cat", "clip": ["1", 1]}
