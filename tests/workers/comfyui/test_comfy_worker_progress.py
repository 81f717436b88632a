"""The percentage of a prompt, from messages alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers.comfyui.progress import Tracker

DATA = Path(__file__).parents[2] / "data/comfyui"
NODES = st.sampled_from(["1", "2", "3", "4", "9.1", "", 5, None])
NUMBERS = st.one_of(st.integers(), st.floats(), st.none(), st.text(max_size=3), st.booleans())


def recorded(name: str) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    lines = json.loads((DATA / f"{name}.json").read_text())
    ((prompt_id, entry),) = lines[-1]["body"].items()
    return entry["prompt"][2], prompt_id, [line["ws"] for line in lines if "ws" in line]


def percents(name: str, *, without: str = "") -> list[float]:
    workflow, prompt_id, messages = recorded(name)
    tracker = Tracker(workflow, prompt_id)
    return [tracker.percent for message in messages if message["type"] != without and tracker.feed(message)]


def test_a_recorded_run() -> None:
    """Four nodes, one of 6 steps: that one counts six times as much as each of the others."""
    seen = percents("success")
    assert list(dict.fromkeys(seen)) == [0.0, 11.1, 22.2, 33.3, 44.4, 55.6, 66.7, 77.8, 88.9, 100.0]
    assert seen == sorted(seen)


def test_without_progress_state_as_in_an_older_comfyui_it_is_the_same() -> None:
    assert set(percents("success", without="progress_state")) == set(percents("success"))


def test_what_is_cached_is_done_from_the_start() -> None:
    assert percents("cached")[1] == 100.0
    assert percents("interrupted")[1] == round(100 * 2 / 23, 1)


def test_titles_and_steps() -> None:
    workflow, prompt_id, messages = recorded("success")
    workflow["3"]["_meta"] = {"title": "Sampling"}
    tracker = Tracker(workflow, prompt_id)
    assert (tracker.message, tracker.node) == ("Starting", "")
    said = []
    for message in messages:
        tracker.feed(message)
        said.append(tracker.message)
    assert list(dict.fromkeys(said)) == [
        "Starting",
        "Canvas",
        "ImageScale",
        "Sampling",
        *(f"Sampling: step {step} of 6" for step in range(1, 7)),
        "SaveImage",
    ]
    assert Tracker(workflow, prompt_id).eta_s(5.0) is None
    assert tracker.eta_s(5.0) == 0.0


def test_another_prompts_messages_are_not_counted() -> None:
    workflow, _, messages = recorded("success")
    tracker = Tracker(workflow, "another")
    assert not any(tracker.feed(message) for message in messages if "prompt_id" in message["data"])
    assert tracker.percent == 0.0


KINDS = ("progress", "progress_state", "executing", "executed", "execution_cached", "execution_success", "status", None)
STATES = st.fixed_dictionaries(
    {"value": NUMBERS, "max": NUMBERS, "state": st.sampled_from(["running", "finished", "pending", None])}
)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    some = st.dictionaries(st.sampled_from(["1", "2", "3", "9.1"]), st.one_of(STATES, st.none()))
    nodes = draw(st.one_of(some, st.lists(NODES), st.none()))
    data = {"node": draw(NODES), "value": draw(NUMBERS), "max": draw(NUMBERS), "nodes": nodes}
    return {"type": draw(st.sampled_from(KINDS)), "data": data}


@given(st.lists(messages(), max_size=30))
def test_whatever_comes_the_percentage_goes_one_way_and_stays_in_bounds(said: list[dict[str, Any]]) -> None:
    tracker = Tracker(recorded("success")[0], "p")
    before = 0.0
    for message in said:
        tracker.feed(message)
        assert before <= tracker.percent <= 100.0
        before = tracker.percent
        assert tracker.message
