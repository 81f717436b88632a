"""Fallbacks end to end: a GPU worker that lacks a model, a node or memory, and what the job does then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import ryla_tasks
from ryla_tasks import FallbackPlan, Job, JobPlan
from ryla_tasks.cli import show
from ryla_tasks.cli.documents import job_document
from ryla_tasks.errors import ConfigurationError, InvalidJob, JobFailed, JobTimedOut, SubmitRejected
from ryla_tasks.jobs.fallback import Fallback, FallbackKind
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer
from ryla_tasks.tasks.maintenance import adopt_remote
from ryla_tasks.tasks.plan import JobOptions
from ryla_tasks.tasks.runtime import runtime_of
from tests.conftest import QUICK, fresh_settings
from tests.support.fallback_app import upscale
from tests.support.fleet import Fleet, WorkerProcess, eventually
from tests.support.own_templates import BIG, SMALL, write_templates

SIZE = {"width": 64, "height": 64}


@pytest.fixture(scope="module")
def shared_worker(whole_fleet: Fleet) -> Iterator[WorkerProcess]:
    """The module's worker has no folder of templates: what a job falls back to comes from its record."""
    whole_fleet.stop_workers()
    whole_fleet.reset()
    yield whole_fleet.worker("--concurrency", "4", app="tests.support.fallback_app", **QUICK).wait_ready()
    whole_fleet.stop_workers()


@pytest.fixture
def painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Fleet) -> Fleet:
    """The fleet, with a folder of templates known here alone. Its endpoint lacks what a test says."""
    monkeypatch.setenv("RYLA_TEMPLATES_DIR", str(write_templates(tmp_path / "templates")))
    fresh_settings()
    return served


def draw(**more: Any) -> Any:
    return ryla_tasks.generate_image.delay(template="elaborate", prompt="a hut", **SIZE, **more)


def sent(fleet: Fleet, name: str = "image") -> list[dict[str, Any]]:
    """The inputs that the endpoint was given, in their order, without what names the attempt."""
    endpoint = fleet.endpoint(name)
    inputs = [endpoint.job(job.id).input for job in sorted(endpoint.jobs(), key=lambda job: job.submitted_at)]
    return [{key: value for key, value in one.items() if key != "ryla"} for one in inputs if one]


def models(fleet: Fleet) -> list[str]:
    loaders = (one["workflow"]["1"]["inputs"] for one in sent(fleet))
    return [loader["unet_name"] for loader in loaders]


def counters(fleet: Fleet) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in fleet.client.hgetall("ryla:counters").items()}


def told(result: Any, kind: str = "fallback") -> list[dict[str, Any]]:
    return [dict(event.data) for event in Job(result.id).events() if event.type == kind]


def test_where_a_model_is_missing_the_job_runs_with_another(painted: Fleet, shared_worker: WorkerProcess) -> None:
    painted.endpoint("image").update(missing_models=(BIG,))
    result = draw(seed=7)
    value = result.get(timeout=30)
    line = {"kind": "model", "from": BIG, "to": SMALL, "why": "missing_model"}
    assert (value["fallbacks"], value["label"], value["seed"], value["attempts"]) == ([line], "elaborate", 7, 2)
    assert len(value["artifacts"]) == 1
    assert models(painted) == [BIG, SMALL]
    first, second = sent(painted)
    first["workflow"]["1"]["inputs"]["unet_name"] = SMALL
    assert first == second
    (event,) = told(result)
    assert {name: event[name] for name in line} == line
    assert (event["phase"], event["attempt"], event["percent"]) == ("queued", 2, 0.0)
    assert event["message"].endswith("Trying another model")
    assert told(result, "retry") == []
    counted = counters(painted)
    assert (counted["fallbacks"], counted["attempts"], counted.get("retries", 0)) == (1, 2, 0)
    assert f"job.fallback job={result.id}" in shared_worker.text
    assert painted.client.keys(f"ryla:fallbacks:{result.id}") == []
    record = Job(result.id).record
    assert ("Fallback, model", f"{BIG} -> {SMALL} (missing_model)") in show._rows(record)
    assert job_document(record, 0.0)["fallbacks"] == [line]


def test_one_fallback_after_the_other_until_one_works(painted: Fleet) -> None:
    """The folder of templates is gone by then."""
    painted.endpoint("image").update(missing_models=(BIG, SMALL), run_s=0.5)
    result = draw(seed=7, steps=20)
    shutil.rmtree(runtime_of(ryla_tasks.app).settings.templates_dir)
    value = result.get(timeout=30)
    assert [line["to"] for line in value["fallbacks"]] == [SMALL, "simple"]
    assert (value["label"], value["seed"], value["attempts"]) == ("simple", 7, 3)
    last = sent(painted)[-1]["workflow"]
    assert (last["1"]["class_type"], last["8"]["inputs"]["steps"], last["8"]["inputs"]["seed"]) == (
        "CheckpointLoaderSimple", 4, 7,
    )  # fmt: skip
    assert last["5"]["inputs"]["text"] == "a hut"
    assert Job(result.id).record.spec.label == "simple"
    assert told(result)[-1]["message"].endswith("Trying a simpler way")


def test_a_missing_node_passes_over_the_other_model(painted: Fleet) -> None:
    painted.endpoint("image").update(missing_nodes=("UNETLoader",))
    value = draw().get(timeout=30)
    assert [(line["kind"], line["why"]) for line in value["fallbacks"]] == [("workflow", "missing_node")]
    assert len(sent(painted)) == 2


def test_where_all_fail_the_job_ends_with_the_last_error_and_names_the_first(painted: Fleet) -> None:
    painted.endpoint("image").update(missing_models=(BIG, SMALL), missing_nodes=("CheckpointLoaderSimple",))
    result = draw()
    with pytest.raises(JobFailed, match="a node that the GPU worker does not have") as caught:
        result.get(timeout=30)
    assert caught.value.info["code"] == "missing_node"
    first = caught.value.details["first_error"]
    assert first["code"] == "missing_model"
    assert first["details"]["nodes"][0]["node"] == "1"
    assert BIG in first["details"]["nodes"][0]["reason"]
    assert [line["to"] for line in caught.value.details["fallbacks"]] == [SMALL, "simple"]
    job = Job(result.id)
    assert (job.record.attempt, len(sent(painted))) == (3, 3)
    assert job.error is not None
    assert job.error.args == caught.value.args


def test_a_job_that_works_takes_none(painted: Fleet) -> None:
    result = draw(count=2)
    value = result.get(timeout=30)
    assert (value["fallbacks"], value["label"], len(value["artifacts"])) == ([], "elaborate", 2)
    assert "fallbacks" not in counters(painted)
    assert painted.client.keys("ryla:fallbacks:*") == []


def test_what_may_pass_is_tried_again_first_and_each_input_has_its_own_retries(served: Fleet) -> None:
    broken = {"fail": "CUDA out of memory"}
    result = upscale.delay(broken, broken, {"seconds": 0.1})
    value = result.get(timeout=40)
    assert [(line["from"], line["to"], line["why"]) for line in value["fallbacks"]] == [
        ("large", "small-1", "out_of_memory"),
        ("large", "small-2", "out_of_memory"),
    ]
    assert (value["label"], value["seed"], value["attempts"]) == ("small-2", 2, 5)
    assert [one["simulate"] for one in sent(served, "echo")] == [broken] * 4 + [{"seconds": 0.1}]
    counted = counters(served)
    assert (counted["retries"], counted["fallbacks"]) == (2, 2)
    assert Job(result.id).record.retries == 0
    kinds = [event.type for event in Job(result.id).events() if event.type in ("retry", "fallback")]
    assert kinds == ["retry", "fallback"] * 2


def test_a_refused_submit_may_fall_back_too(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Answer(op="run", status=413))
    value = upscale.delay({"seconds": 0}, {"seconds": 0.1}, on=["payload_too_large"]).get(timeout=30)
    assert [line["why"] for line in value["fallbacks"]] == ["payload_too_large"]
    assert [one["simulate"] for one in sent(served, "echo")] == [{"seconds": 0.1}]


def test_a_job_whose_input_is_gone_is_not_sent(served: Fleet) -> None:
    result = upscale.apply_async(({"seconds": 0},), countdown=1)
    served.client.delete(f"ryla:input:{result.id}")
    with pytest.raises(SubmitRejected) as caught:
        result.get(timeout=30)
    assert "input is gone" in caught.value.details["error"]
    assert served.endpoint("echo").counters().accepted == 0


def test_a_job_by_name_from_an_app_without_the_package_has_them_too(served: Fleet) -> None:
    app = Celery("bare", broker=served.redis.url, backend=served.redis.url, set_as_current=False)
    given = [{"fail": "Cannot execute because node X does not exist."}, {"seconds": 0.1}]
    value = app.send_task("fallback.upscale", given, queue="ryla.jobs").get(timeout=30)
    assert [line["to"] for line in value["fallbacks"]] == ["small-1"]
    app.close()


def test_a_deadline_that_passes_after_a_fallback_is_a_deadline(served: Fleet) -> None:
    missing = {"fail": "Cannot execute because node X does not exist."}
    result = upscale.apply_async((missing, {"never_end": True}), deadline_s=2)
    with pytest.raises(JobTimedOut) as caught:
        result.get(timeout=30)
    assert caught.value.info["code"] == "deadline"
    assert [line.to for line in Job(result.id).record.fallbacks] == ["small-1"]


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (FallbackPlan(JobPlan({"a": 1}), on=["oom"]), "'oom' is no code that a fallback can follow"),
        (FallbackPlan(JobPlan({"a": 1}), kind="model", on=["missing_node"]), "'missing_node': the same workflow"),
        (FallbackPlan(JobPlan({"a": 1}), kind="endpoint"), "give the endpoint another target"),
        (FallbackPlan(JobPlan({"a": 1}, endpoint="lora")), "goes to the endpoint of its job"),
    ],
)
def test_a_plan_that_can_be_no_fallback_is_refused_at_the_enqueue(served: Fleet, plan: FallbackPlan, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        upscale.new_spec(JobPlan({"a": 1}, fallbacks=(plan,)), JobOptions())
    with pytest.raises(InvalidJob, match="empty"):
        upscale.new_spec(JobPlan({"a": 1}, fallbacks=(FallbackPlan(JobPlan({})),)), JobOptions())


def test_plans_lie_in_a_row_each_followed_by_its_own(served: Fleet) -> None:
    inner = JobPlan({"n": 1}, label="b", fallbacks=(FallbackPlan(JobPlan({"n": 2}, label="c")),))
    plan = JobPlan({"n": 0}, label="a", fallbacks=(FallbackPlan(inner), FallbackPlan(JobPlan({"n": 3}), to="d")))
    spec, inputs = upscale.new_spec(plan, JobOptions())
    assert [json.loads(one)["n"] for one in inputs] == [0, 1, 2, 3]
    assert [(one.source, one.to, one.own, one.place) for one in spec.fallbacks] == [
        ("a", "b", 1, 0),
        ("b", "c", 0, 1),
        ("a", "d", 0, 2),
    ]
    many = JobPlan({"n": 0}, fallbacks=tuple(FallbackPlan(JobPlan({"n": n})) for n in range(9)))
    with pytest.raises(ConfigurationError, match="9 fallbacks"):
        upscale.new_spec(many, JobOptions())


def test_what_no_target_has_the_models_for_is_left_out(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [{"endpoint_id": "echo", "models": ["small"]}, {"endpoint_id": "lora", "models": ["small", "tiny"]}]
    monkeypatch.setenv("RYLA_ENDPOINT_ECHO", json.dumps({"targets": targets}))
    fresh_settings()

    def row(*needs: str, first: str = "small", on: list[str] | None = None) -> list[tuple[str, tuple[str, ...]]]:
        others = tuple(FallbackPlan(JobPlan({"n": 1}, needs=(one,), label=one), on=on) for one in needs)
        plan = JobPlan({"n": 0}, needs=(first,), fallbacks=others)
        spec, inputs = upscale.new_spec(plan, JobOptions())
        assert len(inputs) == 1 + len(spec.fallbacks)
        return [(one.to, one.only) for one in spec.fallbacks]

    assert row("big", "tiny", "small") == [("tiny", ("runpod:lora",)), ("small", ())]
    # What nothing has is sent where a fallback helps against that, and refused where none does.
    assert row("tiny", first="big") == [("tiny", ("runpod:lora",))]
    for wrong in (partial(row, first="big"), partial(row, "tiny", first="big", on=["out_of_memory"])):
        with pytest.raises(InvalidJob, match="lacks big"):
            wrong()


def test_the_output_of_an_input_that_was_replaced_is_no_result(served: Fleet) -> None:
    """A submit's answer was lost, the job was made again, fell back, and then the first turns up as completed."""
    result = upscale.apply_async(({"seconds": 0},), countdown=600)
    provider, endpoint_id = runtime_of(ryla_tasks.app).provider("runpod:echo")
    remote_id = provider.run(endpoint_id, {"simulate": {"seconds": 0}}).remote_id
    eventually(lambda: served.endpoint("echo").job(remote_id).status == "COMPLETED")
    line = Fallback(FallbackKind.WORKFLOW, "large", "small", "missing_node", attempt=2)
    fields = {"attempt": 2, "unanswered": json.dumps([[1, "runpod:echo"]]), "fallbacks": json.dumps([line.kept()])}
    served.client.hset(f"ryla:job:{result.id}", mapping=fields)
    adopt_remote(ryla_tasks.app, result.id, 1, remote_id)
    assert Job(result.id).status is State.QUEUED
    served.client.hdel(f"ryla:job:{result.id}", "fallbacks")
    adopt_remote(ryla_tasks.app, result.id, 1, remote_id)
    eventually(lambda: Job(result.id).status is State.COMPLETED)
