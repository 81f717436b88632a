"""Bad input and bad output: one clear typed error each, in the caller where it can be known there, and nothing lost."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

import ryla_tasks
from ryla_tasks import Job, list_jobs
from ryla_tasks.errors import (
    ConfigurationError,
    InvalidJob,
    JobError,
    JobFailed,
    OutputInvalid,
    OutputMissing,
    PayloadTooLarge,
    SubmitRejected,
    UnknownTemplate,
)
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import Answer
from ryla_tasks.workflows import get_template
from tests.support.fleet import Fleet, eventually
from tests.support.messages import is_idle

SMALL: dict[str, Any] = {"template": "z-image-turbo", "prompt": "a hut", "width": 64, "height": 64}
EDITOR = {"last_node_id": 2, "nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}


def workflow() -> dict[str, Any]:
    rendered = get_template("z-image-turbo").render_with({"prompt": "a hut", "width": 64, "height": 64, "seed": 4})
    return dict(rendered.workflow)


# --- told in the caller ---


@pytest.mark.parametrize(
    ("wish", "kind", "field"),
    [
        ({}, InvalidJob, "workflow"),
        ({"workflow": {}, "template": "z-image-turbo"}, InvalidJob, "workflow"),
        ({"workflow": {}}, InvalidJob, "workflow"),
        ({"workflow": "not an object"}, InvalidJob, "workflow"),
        ({"workflow": EDITOR}, InvalidJob, "workflow"),
        ({"template": "no-such-template"}, UnknownTemplate, "template"),
        ({"template": "z-image-turbo"}, InvalidJob, "prompt"),
        ({**SMALL, "width": 65}, InvalidJob, "width"),
        ({**SMALL, "colour": "red"}, InvalidJob, "colour"),
    ],
)
def test_a_bad_image_job_is_told_by_delay(
    served: Fleet, wish: dict[str, Any], kind: type[InvalidJob], field: str
) -> None:
    with pytest.raises(kind) as caught:
        ryla_tasks.generate_image.delay(**wish)
    assert caught.value.field.split(".")[0] == field
    assert field in str(caught.value) or "template" in str(caught.value)
    assert list_jobs() == []


def test_a_workflow_in_the_editor_s_format_says_what_to_do(served: Fleet) -> None:
    with pytest.raises(InvalidJob, match=r"(?i)API format|Export"):
        ryla_tasks.generate_image.delay(workflow=EDITOR)


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ((), "endpoint"),
        (("echo",), "endpoint"),
        (("echo", {}), "input"),
        (("echo", [1]), "input"),
        (("", {"a": 1}), "endpoint"),
        (("echo", {"a": object()}), "input"),
        (("echo", {"a": 1}, 3, 4), "endpoint"),
    ],
)
def test_a_bad_endpoint_job_is_told_by_delay(served: Fleet, args: tuple[Any, ...], field: str) -> None:
    with pytest.raises(InvalidJob, match=field) as caught:
        ryla_tasks.run_endpoint.delay(*args)
    assert caught.value.field == field


def test_a_payload_of_11_mb_is_told_by_delay(served: Fleet) -> None:
    with pytest.raises(PayloadTooLarge, match=r"11\.0 MB") as caught:
        ryla_tasks.run_endpoint.delay("echo", {"blob": "x" * (11 * 2**20)})
    assert caught.value.field == "input"
    assert "URL" in str(caught.value)
    assert list_jobs() == []


def test_an_endpoint_without_a_setting_names_the_variable(served: Fleet) -> None:
    with pytest.raises(ConfigurationError, match="RYLA_ENDPOINT_UPSCALE") as caught:
        ryla_tasks.run_endpoint.delay("upscale", {"a": 1})
    assert caught.value.setting == "RYLA_ENDPOINT_UPSCALE"


# --- told by the job's end ---


def test_a_wrong_api_key_ends_the_job_and_the_key_is_shown_nowhere(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Answer(op="run", status=401))
    result = ryla_tasks.run_endpoint.delay("echo", {"a": 1})
    with pytest.raises(SubmitRejected, match="API key") as caught:
        result.get(timeout=30)
    assert caught.value.info["category"] == "fatal"
    assert caught.value.details["http_status"] == 401
    assert served.simulator.key not in json.dumps(caught.value.info)
    assert Job(result.id).status is State.FAILED
    assert served.endpoint("echo").counters().calls["run"] == {401: 1}


def test_an_endpoint_that_runpod_does_not_have_ends_the_job(served: Fleet) -> None:
    served.endpoint("special").remove()
    result = ryla_tasks.run_endpoint.delay("special", {"a": 1})
    with pytest.raises(SubmitRejected, match="does not exist") as caught:
        result.get(timeout=30)
    assert caught.value.details["endpoint_id"] == "spc"


def test_input_that_the_endpoint_refuses_ends_the_job_with_its_words(served: Fleet) -> None:
    served.endpoint("echo").add_fault(Answer(op="run", status=400, body='{"error": "input is malformed"}'))
    result = ryla_tasks.run_endpoint.delay("echo", {"a": 1})
    with pytest.raises(SubmitRejected) as caught:
        result.get(timeout=30)
    assert "malformed" in caught.value.details["body"]


def png() -> str:
    """A real picture of the simulator's, as base64."""
    return "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def images(*data: str, **more: Any) -> dict[str, Any]:
    files = [{"filename": f"{n}.png", "type": "base64", "data": one} for n, one in enumerate(data)]
    return {"images": files, **more}


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (None, OutputMissing),
        ({}, OutputMissing),
        ({"images": []}, OutputMissing),
        ({"status": "success_no_images", "images": []}, OutputMissing),
        ("just words", OutputMissing),
        ({"images": "nonsense"}, JobError),
        (images(png()), OutputInvalid),
        (images(png(), errors=["node 9 failed"]), OutputInvalid),
        (images(png(), "%%% not base64 %%%"), OutputInvalid),
        (images(png(), ""), OutputInvalid),
        (images(png(), base64.b64encode(b"no picture").decode()), OutputInvalid),
        (images(png(), png()[:40]), OutputInvalid),
        ({"error": "CUDA out of memory"}, JobFailed),
        ({"message": "no base64 and no URL", "status": "error"}, JobFailed),
    ],
)
def test_malformed_output_ends_the_job_with_a_reason(served: Fleet, output: Any, kind: type[JobError]) -> None:
    """Two images were asked for."""
    body: dict[str, Any] = {"id": "told-by-the-fault", "status": "COMPLETED", "delayTime": 1, "executionTime": 5}
    if output is not None:
        body["output"] = output
    served.endpoint("image").add_fault(Answer(op="status", status=200, body=json.dumps(body), times=None))
    result = ryla_tasks.generate_image.delay(**SMALL, count=2, max_retries=0)
    with pytest.raises(kind) as caught:
        result.get(timeout=30)
    assert isinstance(caught.value, JobError)
    assert str(caught.value)[0].isupper()
    assert caught.value.info["details"]
    job = Job(result.id)
    assert job.status is State.FAILED
    assert job.artifacts == []
    assert served.endpoint("image").counters().accepted == 1


@pytest.mark.parametrize(
    ("how", "kind", "says"),
    [
        ({"truncate": True}, OutputInvalid, "damaged or incomplete"),
        ({"no_output": True}, OutputMissing, "without any result"),
        ({"errors": ["node 9 ran out of memory"], "drop_images": 1}, OutputInvalid, "could be made"),
        ({"drop_images": 1}, OutputMissing, "without making any image"),
        ({"fail": "out of memory"}, JobFailed, "GPU ran out of memory"),
    ],
)
def test_what_a_comfyui_worker_gets_wrong(served: Fleet, how: dict[str, Any], kind: type[JobError], says: str) -> None:
    result = ryla_tasks.run_endpoint.delay("image", {"workflow": workflow(), "simulate": how})
    with pytest.raises(kind, match=says):
        result.get(timeout=30)


@pytest.mark.parametrize("how", [{"legacy_message": True}, {"data_uri": True}])
def test_older_and_wrapped_outputs_are_understood(served: Fleet, how: dict[str, Any]) -> None:
    result = ryla_tasks.run_endpoint.delay("image", {"workflow": workflow(), "simulate": how})
    (artifact,) = result.get(timeout=30)["artifacts"]
    assert artifact["content_type"] == "image/png"
    assert (served.folder / "artifacts" / artifact["key"]).read_bytes().startswith(b"\x89PNG")


def test_after_all_that_the_worker_still_works_and_holds_nothing(served: Fleet) -> None:
    result = ryla_tasks.generate_image.delay(workflow=workflow())
    assert result.get(timeout=30)["seed"] == 4
    eventually(lambda: is_idle(served.client), what="no message is left")


# --- a large input ---


def test_an_input_of_2_mb_travels_once(served: Fleet) -> None:
    """The record has it: no message of the job, queued or held by a worker, is over 2 KB."""
    with served.client.monitor() as monitor:
        result = ryla_tasks.run_endpoint.delay("echo", {"blob": "x7" * 2**20, "simulate": {"output": {"ok": True}}})
        sizes: list[int] = []
        for command in monitor.listen():
            words = command["command"]
            if words.startswith(("LPUSH ryla.", "HSET unacked ")) and result.id in words:
                sizes.append(len(words))
            if words.startswith(("SETEX celery-task-meta-", "SET celery-task-meta-")) and "SUCCESS" in words:
                break
    assert len(sizes) >= 4
    assert max(sizes) < 2048
    assert result.get(timeout=5)["data"] == {"ok": True}
