from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.errors import InvalidJob
from ryla_tasks.workflows import check_workflow, expected_images, find_seed


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def text_to_image(**more: dict[str, Any]) -> dict[str, Any]:
    return {
        "1": node("EmptyLatentImage", width=64, height=64, batch_size=3),
        "2": node("KSampler", latent_image=["1", 0], seed=42, model=["6", 0]),
        "3": node("VAEDecode", samples=["2", 0]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
        "6": node("SomebodysLoader", name="a"),
        **more,
    }


loop: dict[str, Any] = {"class_type": "A", "inputs": {}}
loop["inputs"]["self"] = loop
deep: list[Any] = []
for _ in range(5000):
    deep = [deep]


@pytest.mark.parametrize(
    ("workflow", "field", "says"),
    [
        (None, "workflow", "not NoneType"),
        ("{}", "workflow", "not str"),
        ([], "workflow", "not list"),
        ({}, "workflow", "empty"),
        ({"nodes": [], "links": [], "version": 0.4}, "workflow", "Save (API Format)"),
        ({"prompt": {"1": node("A")}}, "workflow", "inside 'prompt'"),
        ({"workflow": {"1": node("A")}}, "workflow", "inside 'workflow'"),
        ({1: node("A")}, "workflow", "node id 1"),
        ({"1": "A"}, "workflow.1", "not an object"),
        ({"1": {"inputs": {}}}, "workflow.1.class_type", "no class_type"),
        ({"1": {"class_type": "A"}}, "workflow.1.inputs", "no inputs"),
        ({"1": node("A", x={1, 2})}, "workflow.1", "JSON"),
        ({"1": node("A", x=float("nan"))}, "workflow.1", "JSON"),
        ({"1": node("A", x="\ud800")}, "workflow.1", "not valid Unicode"),
        ({"1": node("A", x=deep)}, "workflow.1", "deep"),
        ({"1": loop}, "workflow.1", "JSON"),
        ({"1": node("A"), "2": node("B", image=["7", 0])}, "workflow.2.inputs.image", "node '7', which is not there"),
    ],
)
def test_what_is_no_workflow_is_refused_with_its_place(workflow: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        check_workflow(workflow)
    assert caught.value.field == field
    assert says in str(caught.value)


def test_workflows_pass() -> None:
    check_workflow(text_to_image())
    check_workflow({"57:3": node("A"), "prompt": node("B", x=["57:3", 0], y=["a", "b"], z=["no node", 1, 2])})


json_values = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["class_type", "inputs"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["1", "2", "class_type", "inputs", "nodes", "links", "prompt"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_anything_is_accepted_or_refused_by_invalid_job(value: Any) -> None:
    try:
        check_workflow(value)
    except InvalidJob as error:
        assert error.field.startswith("workflow")  # noqa: PT017 - both outcomes are right
    else:
        find_seed(value)
        expected_images(value)


def test_the_seed_is_found() -> None:
    assert find_seed(text_to_image()) == 42
    assert find_seed({"1": node("RandomNoise", noise_seed=7)}) == 7
    assert find_seed({"1": node("KSampler", seed=["2", 0]), "2": node("PrimitiveInt", value=9)}) == 9
    assert find_seed(text_to_image(x=node("KSampler", seed=42))) == 42
    split = {
        "1": node("KSamplerAdvanced", add_noise="enable", noise_seed=5),
        "2": node("KSamplerAdvanced", add_noise="disable", noise_seed=0),
    }
    assert find_seed(split) == 5


@pytest.mark.parametrize(
    "workflow",
    [
        text_to_image(x=node("KSampler", seed=43)),
        {"1": node("A")},
        {"1": node("Seed", seed=-1)},
        {"1": node("Seed", seed=True)},
        {"1": node("KSampler", seed=["2", 0]), "2": node("SeedFromSomewhere", value=9)},
    ],
)
def test_no_seed_or_several_are_none(workflow: dict[str, Any]) -> None:
    assert find_seed(workflow) is None


BATCH = {"8": node("RepeatLatentBatch", samples=["2", 0], amount=2), "3": node("VAEDecode", samples=["8", 0])}
JOINED = {"8": node("ImageBatch", image1=["3", 0], image2=["9", 0]), "9": node("LoadImage", image="a.png")}


@pytest.mark.parametrize(
    ("more", "images"),
    [
        ({}, 3),
        ({"5": node("PreviewImage", images=["3", 0])}, 3),
        ({"5": node("SaveImage", images=["3", 0])}, 6),
        ({"5": node("SaveAnimatedWEBP", images=["3", 0])}, 4),
        ({"5": node("VAEDecode", samples=["2", 0])}, 3),
        (BATCH, 6),
        ({**JOINED, "4": node("SaveImage", images=["8", 0])}, 4),
        ({"1": node("EmptyLatentImage", batch_size=["7", 0]), "7": node("PrimitiveInt", value=5)}, 5),
        ({"1": node("EmptyLatentImage", batch_size=["7", 0]), "7": node("Dice", value=5)}, None),
        ({"5": node("SomebodysImageSave", images=["3", 0])}, None),
        ({"3": node("SomebodysFilter", images=["2", 0])}, None),
        ({"4": node("PreviewImage", images=["3", 0])}, None),
        ({"4": node("SaveImage", images="x")}, None),
        ({"3": node("ImageScale", image=["5", 0]), "5": node("ImageScale", image=["3", 0])}, None),
    ],
)
def test_images_are_counted_where_that_is_certain(more: dict[str, Any], images: int | None) -> None:
    workflow = text_to_image(**more)
    check_workflow(workflow)
    assert expected_images(workflow) == images


def test_counting_a_tower_of_joins_is_quick() -> None:
    workflow = {"0": node("LoadImage", image="a.png")}
    for level in range(1, 200):
        workflow[str(level)] = node("ImageBatch", image1=[str(level - 1), 0], image2=[str(level - 1), 0])
    workflow["save"] = node("SaveImage", images=["199", 0])
    assert expected_images(workflow) == 2**199


def test_a_very_long_chain_is_not_counted_but_does_no_harm() -> None:
    workflow = {"0": node("LoadImage", image="a.png")}
    for level in range(1, 3000):
        workflow[str(level)] = node("ImageScale", image=[str(level - 1), 0])
    workflow["save"] = node("SaveImage", images=["2999", 0])
    assert expected_images(workflow) is None
