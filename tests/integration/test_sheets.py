"""Character sheets end to end: one job for its user, a job for each angle at the endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain, chord
from celery.result import AsyncResult

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.errors import IdempotencyConflict, InvalidJob, JobCancelled, JobFailed, JobTimedOut
from ryla_tasks.jobs.states import State
from tests.support.fleet import Fleet, eventually
from tests.support.pictures import picture
from workers.comfyui.inputs import read_request
from workers.comfyui.settings import Settings

ANGLES = ["front", "side-left", "back"]
MISSING = "gone.safetensors"
#: An angle that this endpoint cannot make.
BROKEN = {"angle": "back", "checkpoint": MISSING}


def sheet(**more: Any) -> Any:
    wish: dict[str, Any] = {"image": picture(), "angles": ANGLES, "seed": 7, "width": 64, "height": 64, **more}
    return ryla_tasks.make_character_sheet.s(**wish)


def never_ending(fleet: Fleet) -> None:
    fleet.endpoint("special").update(run_s=600.0, steps=100)


def started(fleet: Fleet, **more: Any) -> Job:
    """A sheet all of whose cells run."""
    job = Job(sheet(**more).delay().id)
    eventually(lambda: {cell.status for cell in job.cells} == {State.RUNNING}, what="all cells run")
    return job


def remote_states(fleet: Fleet) -> list[str]:
    return sorted(str(one.status) for one in fleet.endpoint("special").jobs())


def ended(job: Job, state: State) -> None:
    eventually(lambda: job.status is state, what=f"the sheet is {state}")
    eventually(lambda: job.record.delivered, what="Celery was told")


def test_a_sheet_is_one_job_with_a_cell_for_each_angle(served: Fleet) -> None:
    result = sheet(user_id="ann", tags=["x"]).delay()
    value = result.get(timeout=30)
    assert [(cell["name"], cell["status"], cell["seed"]) for cell in value["cells"]] == [
        (angle, "completed", 7) for angle in ANGLES
    ]
    assert value["missing"] == []
    assert value["seed"] == 7
    assert [one["key"] for one in value["artifacts"]] == [cell["artifacts"][0]["key"] for cell in value["cells"]]
    job = Job.get(result.id)
    assert (job.status, job.progress.percent) == (State.COMPLETED, 100.0)
    assert not served.client.exists("ryla:stats:"), "a sample of no target"
    assert [cell.job_id for cell in job.cells] == [f"{result.id}-{angle}" for angle in ANGLES]
    assert [record.job_id for record in ryla_tasks.list_jobs(user_id="ann")] == [result.id]
    assert len(ryla_tasks.list_jobs(user_id="ann", cells=True)) == 4
    events = list(job.events())
    percents = [float(event.data["percent"]) for event in events]
    assert percents == sorted(percents)
    assert [event.data["phase"] for event in events][-2:] == ["collecting", "completed"]
    sent = [served.endpoint("special").job(one.id).input for one in served.endpoint("special").jobs()]
    assert len({one["images"][0]["name"] for one in sent}) == 1
    assert all(len(read_request(one, Settings()).images) == 1 for one in sent)


def test_a_failed_cell_leaves_the_others_and_is_made_alone(served: Fleet) -> None:
    served.endpoint("special").update(missing_models=(MISSING,))
    job = Job(sheet(angles=["front", "side-left", BROKEN], user_id="ann").delay().id)
    value = job.wait(timeout=30)
    assert value["missing"] == ["back"]
    assert value["cells"][2]["error"]["code"] == "missing_model"
    assert value["cells"][2]["artifacts"] == []
    assert len(value["artifacts"]) == 2
    assert value["warnings"] == ["back is missing"]
    assert job.cells[2].error is not None

    served.endpoint("special").update(missing_models=())
    again = job.retry_missing()
    assert job.retry_missing().id == again.id
    whole = again.wait(timeout=30)
    assert whole["missing"] == []
    assert whole["resumes"] == job.id
    assert whole["cells"][:2] == value["cells"][:2]
    assert [one.job_id for one in again.cells] == [f"{job.id}-front", f"{job.id}-side-left", f"{again.id}-back"]
    assert served.endpoint("special").counters().accepted == 4
    assert again.record.spec.user_id == "ann"
    with pytest.raises(InvalidJob, match="nothing is missing"):
        again.retry_missing()
    with pytest.raises(InvalidJob, match="is not this user's"):
        ryla_tasks.make_character_sheet.delay(resume=job.id, user_id="bob")


def test_a_sheet_with_too_few_images_fails_with_the_first_error(served: Fleet) -> None:
    served.endpoint("special").update(missing_models=(MISSING,))
    result = sheet(angles=["front", BROKEN], min_cells=2).delay()
    with pytest.raises(JobFailed, match="model") as caught:
        result.get(timeout=30)
    assert (caught.value.info["code"], caught.value.details["cell"]) == ("missing_model", "back")
    assert [one["status"] for one in caught.value.details["cells"]] == ["completed", "failed"]
    job = Job.get(result.id)
    assert job.status is State.FAILED
    served.endpoint("special").update(missing_models=())
    assert job.retry_missing().wait(timeout=30)["missing"] == []


@pytest.mark.parametrize("how", ["handle", "revoke", "deadline"])
def test_stopping_a_sheet_stops_every_cell(served: Fleet, how: str) -> None:
    never_ending(served)
    job = started(served, deadline_s=4.0) if how == "deadline" else started(served)
    if how == "handle":
        assert job.cancel()
        assert job.progress.message == "Cancelling"
    if how == "revoke":
        ryla_tasks.app.control.revoke(job.id)
    ended(job, State.TIMED_OUT if how == "deadline" else State.CANCELLED)
    assert remote_states(served) == ["CANCELLED"] * 3
    assert not job.cancel()
    if how != "revoke":
        with pytest.raises(JobTimedOut if how == "deadline" else JobCancelled):
            AsyncResult(job.id, app=ryla_tasks.app).get(timeout=10)


def test_a_sheet_cancelled_in_the_middle_keeps_what_it_has_for_another(served: Fleet) -> None:
    served.endpoint("special").update(workers_min=1, workers_max=1, run_s=1.5)
    job = Job(sheet().delay().id)
    done = eventually(lambda: [cell for cell in job.cells if cell.status is State.COMPLETED], what="one is done")
    assert job.cancel()
    ended(job, State.CANCELLED)
    assert "CANCELLED" in remote_states(served)
    served.endpoint("special").update(workers_max=5, run_s=0.2)
    again = job.retry_missing()
    assert again.wait(timeout=30)["missing"] == []
    kept = [cell.job_id for cell in again.cells if not cell.job_id.startswith(again.id)]
    assert kept[:1] == [done[0].job_id]


def test_sheets_in_a_canvas(served: Fleet) -> None:
    follow = ryla_tasks.run_endpoint.s("echo", {"n": 1})
    image = ryla_tasks.generate_image.s(template="z-image-turbo", prompt="a hut", width=64, height=64, seed=1)
    one = ryla_tasks.make_character_sheet.s(angles=["front", "back"], width=64, height=64)
    result = chain(image, one, follow).delay()
    two = chord([sheet(angles=["front"]), sheet(angles=["back"])], follow).delay()
    previous = result.get(timeout=40)["data"]["previous"]
    assert [cell["name"] for cell in previous["cells"]] == ["front", "back"]
    assert [one["cells"][0]["name"] for one in two.get(timeout=40)["data"]["previous"]] == ["front", "back"]


def test_the_same_key_gives_the_same_sheet(served: Fleet) -> None:
    ids = {sheet(idempotency_key="k", user_id="ann").delay().id for _ in range(2)}
    assert len(ids) == 1
    with pytest.raises(IdempotencyConflict):
        sheet(idempotency_key="k", user_id="ann", seed=8).delay()
    Job(ids.pop()).wait(timeout=30)
    assert served.endpoint("special").counters().accepted == 3


def test_bad_wishes_fail_in_the_caller(served: Fleet) -> None:
    for wish, field in (
        ({"angles": ["front", "front"]}, "angles"),
        ({"angles": ["upside-down"]}, "angle"),
        ({"angles": []}, "angles"),
        ({"angles": "front"}, "angles"),
        ({"min_cells": 9}, "min_cells"),
        ({"image": None}, "image"),
        ({"resume": "nobody", "image": None, "angles": None, "seed": None, "width": None, "height": None}, "resume"),
    ):
        with pytest.raises(InvalidJob) as caught:
            sheet(**wish).delay()
        assert caught.value.field == field, wish
    assert ryla_tasks.list_jobs() == []


def test_separate_variations_are_a_sheet_of_images(served: Fleet) -> None:
    wish = {"prompt": "a hut", "n": 3, "seed": 5, "width": 64, "height": 64}
    together = ryla_tasks.generate_variations.delay(**wish)
    apart = ryla_tasks.generate_variations.delay(**wish, separate=True)
    one, many = together.get(timeout=30), apart.get(timeout=30)
    assert [(image["seed"], image["index"]) for image in one["variations"]] == [(5, 0), (5, 1), (5, 2)]
    assert [image["key"] for image in one["variations"]] == [artifact["key"] for artifact in one["artifacts"]]
    seeds = [image["seed"] for image in many["variations"]]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3
    assert served.endpoint("image").counters().accepted == 4
    alone = ryla_tasks.generate_image.delay(
        template="z-image-turbo", prompt="a hut", seed=seeds[2], width=64, height=64
    ).get(timeout=30)
    assert alone["artifacts"][0]["sha256"] == many["artifacts"][2]["sha256"]


def test_swapping_faces(served: Fleet) -> None:
    base = ryla_tasks.generate_image.s(template="z-image-turbo", prompt="a hut", width=64, height=64, seed=1)
    result = chain(base, ryla_tasks.swap_face.s(face=picture(9))).delay()
    value = result.get(timeout=30)
    assert (value["label"], value["endpoint"]) == ("face-swap-reactor", "special")
    (sent,) = [served.endpoint("special").job(one.id).input for one in served.endpoint("special").jobs()]
    assert len(sent["images"]) == 2
    assert sent["needs_face"]
    request = read_request(sent, Settings())
    assert set(request.needs_face) <= {image.name for image in request.images}
    again = ryla_tasks.swap_face.delay(image=picture(), face=value["artifacts"][0], method="faceid", prompt="x", seed=3)
    assert again.get(timeout=30)["seed"] == 3
    with pytest.raises(InvalidJob) as caught:
        ryla_tasks.swap_face.delay(image=picture())
    assert caught.value.field == "face"
