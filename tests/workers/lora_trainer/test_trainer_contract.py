"""What `train_lora` accepts, the worker accepts: nobody waits for a GPU to learn that a field is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryla_tasks.errors import InvalidJob
from ryla_tasks.settings import reset_settings
from ryla_tasks.tasks.lora import BASE_MODELS, train_lora
from workers.lora_trainer.request import BASE_MODELS as WORKERS
from workers.lora_trainer.request import parse_request

#: Mostly good; now and then a value at the edge, or beyond it.
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60) | st.text(max_size=4)
URLS = st.integers(0, 99).map(lambda number: f"https://example.com/{number}.png?sig=x")
IMAGES = st.lists(URLS | st.fixed_dictionaries({"url": URLS, "caption": TEXT}), min_size=3, max_size=6)
SIDES = st.integers(4, 32).map(lambda number: number * 64)
ASKED = st.fixed_dictionaries(
    {"trigger_word": TEXT},
    optional={
        "base_model": st.sampled_from([*BASE_MODELS]),
        "steps": st.integers(1, 2_000) | st.sampled_from([0, 20_000, 20_001]),
        "rank": st.integers(1, 256) | st.sampled_from([0, 257]),
        "resolution": SIDES | st.lists(SIDES, min_size=1, max_size=5) | st.sampled_from([[], 192, 2_112, 500]),
        "learning_rate": st.floats(1e-7, 1e-2) | st.floats(),
        "caption_dropout": st.floats(0, 1) | st.floats(),
        "sample_prompts": st.lists(TEXT, max_size=9),
        "name": TEXT,
    },
)
DATASETS = st.fixed_dictionaries({"images": IMAGES}) | st.fixed_dictionaries({"dataset_url": URLS})
ACCEPTED = 0


@settings(max_examples=300, deadline=None)
@given(ASKED, DATASETS)
def accepted_by_both(asked: dict[str, Any], dataset: dict[str, Any]) -> None:
    global ACCEPTED
    try:
        plan = train_lora(**asked, **dataset)
    except InvalidJob:
        return
    ACCEPTED += 1
    ours = {"job_id": "j", "attempt": 1, "correlation_id": "c" * 24, "webhook": "https://example.com/hook"}
    request = parse_request({**plan.input, "ryla": ours})
    assert request.steps == asked.get("steps", 2_000)
    assert request.trigger_word


def test_the_worker_takes_what_the_task_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_ENV_FILE", "")
    reset_settings()
    accepted_by_both()
    reset_settings()
    assert ACCEPTED > 50


def test_both_know_the_same_base_models() -> None:
    assert tuple(BASE_MODELS) == WORKERS


@pytest.mark.parametrize("word", ["\x85", "\x80\x9f", "a\x00", "a\nb", "\ud800"])
def test_a_trigger_word_of_which_the_worker_would_leave_nothing_is_refused_at_once(word: str) -> None:
    with pytest.raises(InvalidJob, match="trigger_word"):
        train_lora(trigger_word=word, dataset_url="https://example.com/a.zip")
