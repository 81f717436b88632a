"""Fallbacks in manifests: what is refused when a template is loaded, and what is rendered for a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.errors import ConfigurationError
from ryla_tasks.workflows import RenderedFallback, get_template, list_templates, load_template, render_fallbacks
from ryla_tasks.workflows.carrying import _fitted
from ryla_tasks.workflows.parameters import FloatParameter, IntParameter

BIG, SMALL, TINY = "big.safetensors", "small.safetensors", "tiny.safetensors"

WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": BIG}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 0]}},
    "3": {
        "class_type": "Sample",
        "inputs": {"seed": 1, "steps": 20, "cfg": 5.0, "style": "plain", "size": 512, "batch": 1, "text": ["2", 0]},
    },
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
}


def parameter(name: str, kind: str, node: str = "3", field: str = "", **more: Any) -> dict[str, Any]:
    targets = [{"node": node, "input": field or name}]
    return {"name": name, "type": kind, "description": f"The {name}.", "targets": targets, **more}


PROMPT = parameter("prompt", "text", "2", "text", required=True, min_length=1)
SEED = parameter("seed", "seed")
STEPS = parameter("steps", "int", min=1, max=50, default=20)
CFG = parameter("cfg", "float", min=0, max=10, default=5.0)
COUNT = parameter("count", "int", field="batch", min=1, max=8, default=1)
STYLE = parameter("style", "choice", choices=["plain", "wild"], default="plain")
PREFIX = parameter("filename_prefix", "text", "4", internal=True, default="ryla")

Library = Callable[..., Path]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Writes a template into a folder; what is not said is as in a template named "elaborate"."""

    def write(name: str = "elaborate", *parameters: dict[str, Any], **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        manifest = {
            "format": 1,
            "name": name,
            "title": name,
            "description": "For tests.",
            "parameters": list(parameters) or [PROMPT, SEED, STEPS, CFG, COUNT, STYLE, PREFIX],
            "nodes": ["UNETLoader", "CLIPTextEncode", "Sample", "SaveImage"],
            "models": [{"folder": "diffusion_models", "file": BIG}],
            "output_nodes": ["4"],
            "batch_parameter": "count",
            "expected_seconds": 30,
            **changes,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "workflow.json").write_text(json.dumps(WORKFLOW))
        return tmp_path

    return write


def rendered(folder: Path, **params: Any) -> tuple[RenderedFallback, ...]:
    """The fallbacks of a job from the template "elaborate"."""
    find = partial(get_template, folder=folder)
    template, internal = find("elaborate"), {"filename_prefix": "ryla-1"}
    params = {"prompt": "a hut", **params}
    own = template.render_with(params, internal=internal)
    return render_fallbacks(template, own, params, internal=internal, find=find)


# --- other models ---


def test_other_model_files_in_the_same_workflow(library: Library) -> None:
    folder = library(fallbacks=[{"models": {BIG: SMALL}}, {"models": {BIG: TINY}, "on": ["out_of_memory"]}])
    first, second = rendered(folder, seed=7, count=3)
    assert (first.kind, first.source, first.to, first.on) == ("model", BIG, SMALL, None)
    assert (second.to, second.on) == (TINY, ("out_of_memory",))
    assert first.workflow["1"]["inputs"] == {"unet_name": SMALL}
    assert second.workflow["1"]["inputs"] == {"unet_name": TINY}
    assert (first.seed, first.expected_images, first.template.name) == (7, 3, "elaborate")
    own = get_template("elaborate", folder).render_with(
        {"prompt": "a hut", "seed": 7, "count": 3}, internal={"filename_prefix": "ryla-1"}
    )
    assert {**first.workflow, "1": None} == {**own.workflow, "1": None}
    assert own.workflow["1"]["inputs"] == {"unet_name": BIG}


def test_a_prompt_is_never_taken_for_a_model_file(library: Library) -> None:
    folder = library(fallbacks=[{"models": {BIG: SMALL}}])
    (fallback,) = rendered(folder, prompt=BIG)
    assert fallback.workflow["2"]["inputs"]["text"] == BIG
    assert fallback.workflow["1"]["inputs"]["unet_name"] == SMALL


def test_a_model_that_a_parameter_chooses_is_exchanged_where_it_was_chosen(library: Library) -> None:
    model = parameter("model", "choice", "1", "unet_name", choices=[BIG, TINY], default=BIG)
    folder = library("elaborate", PROMPT, SEED, COUNT, model, fallbacks=[{"models": {BIG: SMALL}}])
    (fallback,) = rendered(folder)
    assert fallback.workflow["1"]["inputs"]["unet_name"] == SMALL
    assert rendered(folder, model=TINY) == ()


# --- another template ---


def test_another_template_gets_what_was_given_and_the_seed(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}])
    few = parameter("steps", "int", min=1, max=50, default=8)
    noise = parameter("noise", "seed", field="seed")
    library("simple", PROMPT, noise, few, CFG, PREFIX, batch_parameter=None, expected_seconds=4)
    (fallback,) = rendered(folder, cfg=3, style="wild", count=4)
    inputs = fallback.workflow["3"]["inputs"]
    assert (fallback.kind, fallback.source, fallback.to) == ("workflow", "elaborate", "simple")
    assert fallback.workflow["2"]["inputs"]["text"] == "a hut"
    assert (inputs["cfg"], inputs["steps"], inputs["style"], inputs["batch"]) == (3, 8, "plain", 1)
    assert fallback.workflow["4"]["inputs"]["filename_prefix"] == "ryla-1"
    assert (fallback.expected_images, fallback.template.manifest.expected_seconds) == (1, 4)
    assert isinstance(fallback.seed, int)
    assert rendered(folder, seed=11)[0].seed == 11


def test_a_drawn_seed_is_the_same_in_all(library: Library) -> None:
    folder = library(fallbacks=[{"models": {BIG: SMALL}}, {"template": "simple"}])
    library("simple")
    model, simple = rendered(folder)
    assert model.seed == simple.seed == simple.workflow["3"]["inputs"]["seed"]


def test_a_seed_that_is_too_large_for_the_other_is_brought_within_its_bounds(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}])
    library("simple", PROMPT, {**SEED, "max": 999}, batch_parameter=None)
    assert rendered(folder, seed=123_456)[0].seed == 456


def test_names_are_translated(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple", "params": {"prompt": "text", "steps": "cfg"}}])
    text = parameter("text", "text", "2", required=True)
    library("simple", text, SEED, CFG, STEPS, batch_parameter=None)
    (fallback,) = rendered(folder, steps=9)
    assert fallback.workflow["2"]["inputs"]["text"] == "a hut"
    # What goes to another name does not go to its own as well.
    assert (fallback.workflow["3"]["inputs"]["cfg"], fallback.workflow["3"]["inputs"]["steps"]) == (9, 20)


def test_what_the_other_requires_and_was_not_given_is_what_was_used(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}])
    library("simple", PROMPT, parameter("steps", "int", min=1, max=50, required=True), batch_parameter=None)
    assert rendered(folder)[0].workflow["3"]["inputs"]["steps"] == 20


def test_text_is_cut_and_what_the_other_does_not_admit_is_left_to_its_default(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}])
    short = parameter("prompt", "text", "2", "text", required=True, max_length=4)
    library("simple", short, parameter("style", "choice", choices=["plain", 5], default=5), batch_parameter=None)
    (fallback,) = rendered(folder, prompt="a lighthouse", style="wild")
    assert fallback.workflow["2"]["inputs"]["text"] == "a li"
    assert fallback.workflow["3"]["inputs"]["style"] == 5


def test_one_that_cannot_take_these_parameters_is_left_out(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}, {"models": {BIG: SMALL}}])
    library("simple", PROMPT, parameter("style", "choice", choices=["plain"], required=True), batch_parameter=None)
    assert [one.kind for one in rendered(folder)] == ["workflow", "model"]
    assert [one.kind for one in rendered(folder, style="wild")] == ["model"]


@given(wanted=st.integers(1, 50), least=st.integers(-9, 60), width=st.integers(0, 40), step=st.integers(1, 9))
def test_numbers_are_brought_within_bounds_and_steps(wanted: int, least: int, width: int, step: int) -> None:
    bounds = {"targets": [{"node": "3", "input": "steps"}], "description": "d", "required": True, "name": "n"}
    whole = IntParameter(type="int", min=least, max=least + width, step=step, **bounds)
    fitted = _fitted(whole, wanted)
    assert whole._admits(fitted)
    nearest = min(abs(other - wanted) for other in range(least, least + width + 1, step))
    assert abs(fitted - wanted) == nearest or fitted == least + width // step * step
    assert type(_fitted(whole, wanted + 0.2)) is int
    real = FloatParameter(type="float", min=least / 10, max=(least + width) / 10, step=step / 10, **bounds)
    assert real._admits(_fitted(real, wanted / 10))


def test_fallbacks_of_a_fallback_are_its_own(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}, {"template": "simplest"}])
    library("simple", fallbacks=[{"models": {BIG: TINY}}, {"template": "simplest"}])
    library("simplest")
    first, second = rendered(folder, seed=5)
    assert [(one.kind, one.source, one.to) for one in first.fallbacks] == [
        ("model", BIG, TINY),
        ("workflow", "simple", "simplest"),
    ]
    assert first.fallbacks[0].template.name == "simple"
    assert first.fallbacks[1].seed == 5
    assert (second.to, second.fallbacks) == ("simplest", ())


# --- what is wrong ---


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({}, "either models or a template"),
        ({"models": {}}, "either models or a template"),
        ({"models": {BIG: SMALL}, "template": "simple"}, "either models or a template"),
        ({"models": {"gone.safetensors": SMALL}}, "model file 'gone.safetensors' is not one of its models"),
        ({"models": {BIG: ""}}, "models"),
        ({"models": {BIG: BIG}}, "stands for itself"),
        ({"models": {BIG: SMALL}, "params": {"prompt": "text"}}, "params are for another template"),
        ({"models": {BIG: SMALL}, "on": ["oom"]}, "'oom' is no code that a fallback can follow"),
        ({"models": {BIG: SMALL}, "on": []}, "on"),
        ({"models": {BIG: SMALL}, "on": ["missing_node"]}, "'missing_node': the same workflow"),
        ({"models": {BIG: SMALL}, "on": ["poison_input"]}, "'poison_input': the same workflow"),
        ({"models": {BIG: SMALL}, "surprise": 1}, "surprise"),
        ({"template": "simple", "on": ["missing_model", "submit_unknown"]}, "'submit_unknown' is no code"),
        ({"template": "simpel"}, "there is no template 'simpel' (did you mean 'simple'?)"),
        ({"template": "elaborate"}, "in a circle: elaborate -> elaborate"),
        ({"template": "simple", "params": {"promt": "prompt"}}, "'elaborate' has no parameter 'promt'"),
        ({"template": "simple", "params": {"prompt": "text"}}, "'simple' has no parameter 'text'"),
        ({"template": "simple", "params": {"filename_prefix": "prompt"}}, "no parameter 'filename_prefix'"),
        ({"template": "simple", "params": {"prompt": "steps"}}, "'prompt' is text, and 'steps' of 'simple' is int"),
        ({"template": "simple", "params": {"steps": "cfg", "cfg": "cfg"}}, "two parameters go to the same one"),
        ({"template": "strict"}, "'strict' requires 'depth', for which 'elaborate' has no parameter of its kind"),
        ({"template": "odd"}, "'odd' requires 'steps', for which"),
    ],
)
def test_a_wrong_fallback_is_refused_when_the_template_is_loaded(
    library: Library, rule: dict[str, Any], says: str
) -> None:
    folder = library(fallbacks=[rule])
    library("simple")
    library(
        "strict", PROMPT, parameter("depth", "int", field="size", min=1, max=2, required=True), batch_parameter=None
    )
    library("odd", PROMPT, parameter("steps", "text", field="style", required=True), batch_parameter=None)
    for load in (partial(get_template, "elaborate"), list_templates):
        with pytest.raises(ConfigurationError) as caught:
            load(folder)
        assert says in str(caught.value)
        assert "elaborate" in str(caught.value)
    get_template("simple", folder)


def test_a_circle_of_several_is_found_from_each_of_them(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}])
    library("simple", fallbacks=[{"models": {BIG: SMALL}}, {"template": "simplest"}])
    library("simplest", fallbacks=[{"template": "elaborate"}])
    with pytest.raises(ConfigurationError, match="elaborate -> simple -> simplest -> elaborate"):
        get_template("elaborate", folder)
    with pytest.raises(ConfigurationError, match="simplest -> elaborate -> simple -> simplest"):
        get_template("simplest", folder)


def test_too_many_are_refused_those_of_fallbacks_included(library: Library) -> None:
    folder = library("simple", fallbacks=[{"models": {BIG: f"{n}.safetensors"}} for n in range(4)])
    library(fallbacks=[{"template": "simple"}, *[{"models": {BIG: f"{n}.safetensors"}} for n in range(3)]])
    assert len(rendered(folder)) == 4
    library(fallbacks=[{"template": "simple"}, *[{"models": {BIG: f"{n}.safetensors"}} for n in range(4)]])
    with pytest.raises(ConfigurationError, match="has 9 fallbacks"):
        get_template("elaborate", folder)


def test_a_fallback_that_is_broken_is_told_and_one_that_is_mended_is_read_again(library: Library) -> None:
    folder = library(fallbacks=[{"template": "simple"}])
    (folder / "simple").mkdir()
    (folder / "simple" / "manifest.json").write_text("{")
    with pytest.raises(ConfigurationError, match="simple"):
        get_template("elaborate", folder)
    library("simple")
    assert get_template("elaborate", folder).name == "elaborate"


def test_a_template_alone_is_checked_as_far_as_it_goes(library: Library) -> None:
    folder = library(fallbacks=[{"template": "elsewhere"}])
    assert load_template(folder / "elaborate").manifest.fallbacks[0].template == "elsewhere"
