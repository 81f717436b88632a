"""The main job: an image through Celery, Redis and an endpoint, end to end."""

from __future__ import annotations

import hashlib

import ryla_tasks
from ryla_tasks.jobs.states import State
from tests.support.fleet import Fleet, WorkerProcess


def test_an_image_job_ends_with_a_png(fleet: Fleet, worker: WorkerProcess) -> None:
    result = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a lighthouse", seed=7, user_id="ann")
    value = result.get(timeout=30)
    assert value["seed"] == 7
    (artifact,) = value["artifacts"]
    data = (fleet.folder / "artifacts" / artifact["key"]).read_bytes()
    assert data.startswith(b"\x89PNG")
    assert artifact["content_type"] == "image/png"
    assert artifact["bytes"] == len(data)
    assert artifact["sha256"] == hashlib.sha256(data).hexdigest()
    job = ryla_tasks.Job.get(result.id)
    assert job.status is State.COMPLETED
    assert job.result() == value
    counters = fleet.endpoint("image").counters()
    assert counters.accepted == 1
    assert counters.billable_starts == 1


def test_progress_is_told_in_order_and_can_be_replayed(fleet: Fleet, worker: WorkerProcess) -> None:
    fleet.endpoint("image").update(run_s=3.0)
    result = ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a lighthouse")
    job = ryla_tasks.Job.get(result.id)
    seen = list(job.events(follow=True, timeout=30))
    phases = [event.data["phase"] for event in seen]
    assert phases[0] == "queued"
    assert phases[-1] == "completed"
    assert phases.index("running") < phases.index("collecting")
    percents = [event.data["percent"] for event in seen]
    assert percents == sorted(percents)
    assert any(0 < percent < 100 for percent in percents)
    middle = seen[2].position
    assert [event.position for event in job.events(after=middle)] == [event.position for event in seen[3:]]
