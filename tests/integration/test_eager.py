"""`task_always_eager` and a task called like a function: the job runs to its end here, without Redis or workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group

import ryla_tasks
from ryla_tasks.errors import BudgetExceeded, InvalidJob, JobFailed, JobTimedOut, SubmitOutcomeUnknown, SubmitRejected
from ryla_tasks.simulator import Answer, LoseAnswer
from tests.conftest import QUICK, fresh_settings
from tests.support.fallback_app import upscale
from tests.support.fleet import Fleet
from tests.support.own_templates import BIG, SMALL, write_templates
from tests.support.pictures import picture


@pytest.fixture
def quick(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    fresh_settings()
    fleet.reset(run_s=0.1, queue_delay_s=0.0)
    yield fleet
    assert fleet.client.keys("ryla:*") == []


@pytest.fixture
def eager(quick: Fleet) -> Iterator[Fleet]:
    ryla_tasks.app.conf.task_always_eager = True
    yield quick
    ryla_tasks.app.conf.task_always_eager = False


def image(**more: Any) -> Any:
    return ryla_tasks.generate_image.s(template="z-image-turbo", width=64, height=64, prompt="a hut", **more)


def echo(**job_input: Any) -> Any:
    return ryla_tasks.run_endpoint.s("echo", job_input or {"a": 1})


def test_a_sheet_is_made_cell_by_cell(eager: Fleet) -> None:
    eager.endpoint("special").update(missing_models=("gone.safetensors",))
    angles = ["front", {"angle": "back", "checkpoint": "gone.safetensors"}]
    value = ryla_tasks.make_character_sheet.delay(image=picture(), angles=angles, width=64, height=64).get()
    assert [cell["status"] for cell in value["cells"]] == ["completed", "failed"]
    assert value["missing"] == ["back"]


def test_a_job_is_done_when_delay_returns(eager: Fleet) -> None:
    result = image(seed=3).delay()
    assert result.ready()
    value = result.get()
    assert (value["seed"], value["job_id"]) == (3, result.id)
    (artifact,) = value["artifacts"]
    assert (eager.folder / "artifacts" / artifact["key"]).read_bytes().startswith(b"\x89PNG")


def test_a_failure_is_the_same_typed_error(eager: Fleet) -> None:
    result = echo(simulate={"fail": "no"}).delay()
    assert result.state == "FAILURE"
    with pytest.raises(JobFailed) as caught:
        result.get()
    assert (caught.value.job_id, caught.value.info["code"]) == (result.id, "worker_error")


def test_bad_input_and_unknown_options_are_told_by_delay(eager: Fleet) -> None:
    with pytest.raises(InvalidJob, match="template"):
        ryla_tasks.generate_image.delay(template="nope")
    with pytest.raises(InvalidJob, match="deadline_s"):
        ryla_tasks.run_endpoint.delay("echo", {"a": 1}, deadline_s=-1)


def test_a_chain_hands_the_result_on(eager: Fleet) -> None:
    data = chain(image(seed=1), image(seed=2), echo(last=1)).delay().get()["data"]
    assert (data["last"], data["previous"]["seed"]) == (1, 2)
    endpoint = eager.endpoint("image")
    second = endpoint.job(endpoint.jobs()[1].id).input
    assert second is not None
    assert [one["name"] for one in second["images"]] == ["input_1.png"]


def test_groups_and_chords_run(eager: Fleet) -> None:
    values = group(image(seed=seed) for seed in range(2)).delay().get()
    assert [value["seed"] for value in values] == [0, 1]
    data = chord([echo(n=1), echo(n=2)], echo(body=1)).delay().get()["data"]
    assert [one["data"]["n"] for one in data["previous"]] == [1, 2]


def test_a_task_can_be_called_like_a_function(quick: Fleet) -> None:
    value = ryla_tasks.generate_image(template="z-image-turbo", width=64, height=64, prompt="a hut", seed=9)
    assert value["seed"] == 9
    with pytest.raises(JobFailed):
        ryla_tasks.run_endpoint("echo", {"simulate": {"fail": "no"}})
    with pytest.raises(InvalidJob, match="input"):
        ryla_tasks.run_endpoint("echo", {})


def test_a_refused_submit_is_tried_again_and_a_lost_answer_is_not(quick: Fleet) -> None:
    quick.endpoint("echo").add_fault(Answer(op="run", status=429, retry_after=0.1))
    assert ryla_tasks.run_endpoint("echo", {"n": 1})["attempts"] == 2
    quick.endpoint("echo").add_fault(Answer(op="run", status=429, retry_after=0.1, times=None))
    with pytest.raises(SubmitRejected, match="too busy"):
        ryla_tasks.run_endpoint("echo", {"n": 1}, max_retries=1)
    quick.endpoint("echo").clear_faults()
    quick.endpoint("echo").add_fault(LoseAnswer(op="run"))
    with pytest.raises(SubmitOutcomeUnknown):
        ryla_tasks.run_endpoint("echo", {"n": 2})
    assert quick.endpoint("echo").counters().accepted == 2


def test_the_deadline_cancels_the_remote_job(quick: Fleet) -> None:
    with pytest.raises(JobTimedOut) as caught:
        ryla_tasks.run_endpoint("echo", {"simulate": {"never_end": True}}, deadline_s=0.5)
    assert caught.value.info["code"] == "deadline"
    assert quick.endpoint("echo").counters().ended == {"CANCELLED": 1}


def test_a_deadline_holds_between_two_attempts_too(quick: Fleet) -> None:
    quick.endpoint("echo").add_fault(Answer(op="run", status=429, retry_after=60, times=None))
    begun = time.monotonic()
    with pytest.raises(JobTimedOut) as caught:
        ryla_tasks.run_endpoint("echo", {"n": 1}, deadline_s=0.5)
    assert caught.value.info["code"] == "deadline"
    assert time.monotonic() - begun < 10
    assert quick.endpoint("echo").counters().calls["run"] == {429: 1}


def test_a_ceiling_is_kept_before_and_while_a_job_runs(quick: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    priced = {"endpoint_id": "echo", "price_per_s": 0.01, "poll_min_s": 0.25, "poll_max_s": 0.5}
    monkeypatch.setenv("RYLA_ENDPOINT_ECHO", json.dumps(priced))
    fresh_settings()
    with pytest.raises(BudgetExceeded, match="was not started") as caught:
        ryla_tasks.run_endpoint("echo", {"n": 1}, max_cost_usd=0.1)
    assert caught.value.info["code"] == "budget_job"
    assert quick.endpoint("echo").counters().accepted == 0
    assert ryla_tasks.run_endpoint("echo", {"n": 1}, max_cost_usd=0.15)["cost"]["usd"] == 0.01

    @ryla_tasks.app.task(base=ryla_tasks.ServerlessTask, name="tests.never", endpoint="echo")
    def never() -> ryla_tasks.JobPlan:
        return ryla_tasks.JobPlan({"simulate": {"never_end": True}}, expected_run_s=0.5)

    with pytest.raises(BudgetExceeded, match="was stopped"):
        never(max_cost_usd=0.01)
    assert quick.endpoint("echo").counters().ended["CANCELLED"] == 1


def test_a_numeric_priority_is_taken_as_it_is_without_eager_mode(eager: Fleet) -> None:
    assert ryla_tasks.run_endpoint.apply_async(("echo", {"n": 1}), priority=3).get()["data"]["n"] == 1
    assert chain(echo(n=1), echo(n=2)).set(priority=9).apply_async().get()["data"]["n"] == 2


def test_a_template_falls_back(quick: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYLA_TEMPLATES_DIR", str(write_templates(tmp_path / "templates")))
    fresh_settings()
    quick.endpoint("image").update(missing_models=(BIG, SMALL))
    value = ryla_tasks.generate_image(template="elaborate", prompt="a hut", seed=3, width=64, height=64)
    assert [line["to"] for line in value["fallbacks"]] == [SMALL, "simple"]
    assert (value["label"], value["seed"], value["attempts"]) == ("simple", 3, 3)


def test_a_plan_falls_back(quick: Fleet) -> None:
    broken = {"fail": "CUDA out of memory"}
    value = upscale(broken, {"seconds": 0.1})
    assert [(line["why"], line["to"]) for line in value["fallbacks"]] == [("out_of_memory", "small-1")]
    assert (value["label"], value["attempts"]) == ("small-1", 3)
    with pytest.raises(JobFailed) as caught:
        upscale(broken, broken)
    assert caught.value.details["first_error"]["code"] == "out_of_memory"
