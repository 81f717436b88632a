"""What `train_lora` takes, and what it sends: all that can be wrong is told before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import configure, reset_settings
from ryla_tasks.tasks.lora import BASE_MODELS, expected_training_s, train_lora
from ryla_tasks.tasks.plan import JobOptions, build_spec
from ryla_tasks.tasks.variations import derived_seed
from workers.lora_trainer.request import BASE_MODELS as TRAINER_MODELS
from workers.lora_trainer.request import parse_request

IMAGES = [f"https://example.org/{number}.png?sig=topsecret" for number in range(3)]


@pytest.fixture(autouse=True, scope="module")
def own_settings() -> Iterator[None]:
    configure(runpod_api_key="k", endpoints={"lora": "ep"}, artifacts="file:///nowhere-at-all")
    yield
    reset_settings()


def asked(**more: Any) -> dict[str, Any]:
    return {"trigger_word": "rylagirl", "images": IMAGES, **more}


def test_the_defaults() -> None:
    plan = train_lora(**asked())
    assert plan.input == {
        "trigger_word": "rylagirl",
        "images": [{"url": url} for url in IMAGES],
        "base_model": "flux",
        "steps": 2_000,
        "rank": 16,
        "resolution": [512, 768, 1024],
        "learning_rate": 1e-4,
    }
    assert 3_600 <= (plan.expected_run_s or 0) <= 5_400
    assert plan.label == "lora flux"


def test_everything_that_may_be_said() -> None:
    images = [{"url": IMAGES[0], "caption": "rylagirl, smiling"}, *IMAGES[1:]]
    plan = train_lora(
        **asked(
            images=images, base_model="sdxl", steps=900, rank=32, resolution=768, learning_rate=5e-5,
            caption_dropout=0.1, sample_prompts=["rylagirl on a beach"], name="Ryla",
        )
    )  # fmt: skip
    assert plan.input["images"][0] == images[0]
    assert (plan.input["resolution"], plan.input["name"]) == ([768], "Ryla")
    assert plan.input["sample_prompts"] == ["rylagirl on a beach"]
    zipped = train_lora(trigger_word="x", dataset_url="https://example.org/set.zip")
    assert zipped.input["dataset_url"] == "https://example.org/set.zip"
    assert "images" not in zipped.input


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"images": [{"url": IMAGES[0], "caption": "x" * 2_000}, *IMAGES[1:]], "name": "N", "sample_prompts": ["a"]},
        {"steps": 1, "rank": 1, "resolution": 256, "learning_rate": 1e-7, "caption_dropout": 0},
        {"steps": 1_000, "rank": 256, "resolution": [2048, 256], "learning_rate": 1e-2, "base_model": "sdxl"},
        {"images": None, "dataset_url": "https://example.org/set.zip", "base_model": "qwen"},
        {"base_model": "z-image", "trigger_word": "x" * 100},
    ],
)
def test_what_is_sent_is_what_the_trainer_takes(wish: dict[str, Any]) -> None:
    sent = train_lora(**asked(**wish)).input
    request = parse_request({**sent, "ryla": {"job_id": "j", "attempt": 1, "correlation_id": "c"}})
    assert request.model_dump(include=set(sent) - {"images"}) == {
        name: value for name, value in sent.items() if name != "images"
    }
    assert set(BASE_MODELS) == set(TRAINER_MODELS)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"trigger_word": None}, "trigger_word"),
    ({"trigger_word": " "}, "trigger_word"),
    ({"trigger_word": "a\nb"}, "trigger_word"),
    ({"images": None}, "images"),
    ({"images": IMAGES[:2]}, "images"),
    ({"images": "https://example.org/x.png"}, "images"),
    ({"images": [*IMAGES, "http://example.org/x.png"]}, "images.3"),
    ({"images": [*IMAGES, "https://user:pw@example.org/x.png"]}, "images.3"),
    ({"images": [*IMAGES, "https://[broken/topsecret"]}, "images.3"),
    ({"images": [*IMAGES, {"url": 5}]}, "images.3.url"),
    ({"images": [*IMAGES, {"caption": "x"}]}, "images.3"),
    ({"images": [*IMAGES, {"url": IMAGES[0], "caption": "x" * 3_000}]}, "images.3.caption"),
    ({"images": [*IMAGES, {"key": "a/b.png", "content_type": "image/png"}]}, "images.3"),
    ({"images": [*IMAGES, {"key": "../b.png", "content_type": "image/png"}]}, "images.3"),
    ({"dataset_url": "https://example.org/x.zip"}, "images"),
    ({"images": None, "dataset_url": "ftp://example.org/x.zip"}, "dataset_url"),
    ({"base_model": "sd15"}, "base_model"),
    ({"steps": 0}, "steps"),
    ({"steps": True}, "steps"),
    ({"steps": 20_000}, "steps"),
    ({"rank": 1_000}, "rank"),
    ({"resolution": 100}, "resolution"),
    ({"resolution": [512, 700]}, "resolution"),
    ({"resolution": []}, "resolution"),
    ({"learning_rate": 1.0}, "learning_rate"),
    ({"learning_rate": float("nan")}, "learning_rate"),
    ({"caption_dropout": 2}, "caption_dropout"),
    ({"sample_prompts": "one"}, "sample_prompts"),
    ({"sample_prompts": ["x"] * 9}, "sample_prompts"),
    ({"name": "x" * 200}, "name"),
]


@pytest.mark.parametrize(("wish", "field"), BAD)
def test_what_is_wrong_is_named_and_nothing_secret_is_shown(wish: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        train_lora(**asked(**wish))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert "topsecret" not in str(caught.value)


def test_a_training_is_never_submitted_on_a_guess() -> None:
    from ryla_tasks.settings import get_settings

    endpoint = get_settings().endpoint("lora")
    options = JobOptions(on_unknown="resubmit")
    with pytest.raises(InvalidJob) as caught:
        build_spec("ryla.train_lora", train_lora(**asked()), options, endpoint, {})
    assert caught.value.field == "on_unknown"
    spec = build_spec("ryla.train_lora", train_lora(**asked()), JobOptions(), endpoint, {}, webhook=True)
    assert spec.on_unknown == "wait"
    # What runs for an hour and a half is neither stopped nor lost, and is asked after seldom.
    longest = 1.5 * 3_600
    assert 2 * longest < spec.execution_timeout_s < spec.ttl_s
    assert (spec.deadline_s or 0) >= spec.execution_timeout_s + longest
    assert spec.retention_s >= 7 * 86_400
    assert spec.poll_max_s == 30


@given(base=st.sampled_from(sorted(BASE_MODELS)), steps=st.integers(1, 20_000), side=st.integers(4, 32))
def test_more_work_is_expected_to_take_longer(base: str, steps: int, side: int) -> None:
    usual = expected_training_s(base, steps, side * 64)
    assert usual > 0
    assert expected_training_s(base, steps + 100, side * 64) > usual
    assert expected_training_s(base, steps, side * 64 + 64) >= usual


@given(seed=st.integers(0, 2**53 - 1))
def test_seeds_of_variations_are_each_their_own(seed: int) -> None:
    seeds = [derived_seed(seed, number) for number in range(8)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 8
    assert seeds == [derived_seed(seed, number) for number in range(8)]
    assert all(0 <= one < 2**53 for one in seeds)
