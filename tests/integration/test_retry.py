"""Making ended jobs again, by `Job.retry` and `ryla retry`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.cli import cli
from ryla_tasks.cli.exits import Exit
from ryla_tasks.errors import InvalidJob, JobError
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import LoseAnswer
from tests.conftest import fresh_settings
from tests.support.fleet import Fleet, eventually
from tests.support.pictures import picture

FAILING = {"prompt": "a hut", "simulate": {"fail": "ValueError: no"}}


def ended(job_input: dict[str, Any], **options: Any) -> Job:
    job = Job(ryla_tasks.run_endpoint.delay("echo", job_input, **options).id)
    with pytest.raises(JobError):
        job.wait(timeout=30)
    return job


def never_sent(signature: Any) -> Job:
    """A job that was cancelled before its time came."""
    job = Job(signature.apply_async(countdown=60).id)
    job.cancel()
    assert job.status is State.CANCELLED
    return job


def test_a_retry_is_a_new_job_with_the_same_input_and_owner(served: Fleet) -> None:
    options = {"user_id": "ann", "tags": ["t1"], "priority": "high", "idempotency_key": "k", "on_unknown": "fail"}
    job = ended(FAILING, **options)
    retried = job.retry()
    assert retried.id != job.id
    spec = retried.record.spec
    assert (spec.retry_of, spec.task, spec.endpoint, spec.kind) == (job.id, "ryla.run_endpoint", "echo", "special")
    assert (spec.user_id, spec.tags, spec.priority, spec.on_unknown) == ("ann", ("t1",), "high", "fail")
    with pytest.raises(JobError):
        retried.wait(timeout=30)
    inputs = [served.endpoint("echo").job(one.record.remote_id).input for one in (job, retried)]
    for one in inputs:
        one.pop("ryla")
    assert inputs == [FAILING, FAILING]
    # Ended in its turn, it is the one to make again; the first one has been.
    assert job.retry().id == retried.id
    assert retried.retry().record.spec.retry_of == retried.id


def test_again_makes_another_one_and_options_go_before_the_old_ones(served: Fleet) -> None:
    job = ended(FAILING, user_id="ann")
    first = job.retry()
    other = job.retry(again=True, priority="low", deadline_s=77)
    assert len({job.id, first.id, other.id}) == 3
    spec = other.record.spec
    assert (spec.user_id, spec.priority, spec.deadline_s) == ("ann", "low", 77)
    with pytest.raises(InvalidJob, match="prompt: is no option of a job"):
        job.retry(prompt="another")
    with pytest.raises(InvalidJob, match=r"^priority: "):
        job.retry(priority="now")


def test_what_cannot_be_made_again_says_why(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Job(ryla_tasks.run_endpoint.delay("echo", {"a": 1}).id)
    done.wait(timeout=30)
    with pytest.raises(InvalidJob, match="has completed"):
        done.retry()
    assert not served.client.exists(f"ryla:input:{done.id}")
    running = Job(ryla_tasks.run_endpoint.delay("echo", {"simulate": {"never_end": True}}).id)
    with pytest.raises(InvalidJob, match="only a job that has ended"):
        running.retry()
    running.cancel()
    monkeypatch.setenv("RYLA_KEEP_INPUT_BYTES", "50")
    fresh_settings()
    large = ended({**FAILING, "more": "x" * 60})
    assert not served.client.exists(f"ryla:input:{large.id}")
    with pytest.raises(InvalidJob, match="KEEP_INPUT_BYTES"):
        large.retry()


def test_a_cancelled_job_is_made_again(served: Fleet) -> None:
    job = never_sent(ryla_tasks.run_endpoint.s("echo", {"a": 1}))
    assert job.retry().wait(timeout=30)["data"]["a"] == 1


def test_the_input_goes_with_the_record(served: Fleet) -> None:
    job = ended(FAILING)
    assert served.client.exists(f"ryla:input:{job.id}")
    eventually(lambda: served.client.zscore("ryla:expiry", job.id), what="it was delivered")
    served.client.zadd("ryla:expiry", {job.id: 1})
    eventually(lambda: not served.client.exists(f"ryla:job:{job.id}", f"ryla:input:{job.id}"), what="both are dropped")


@pytest.mark.parametrize("how", ["it ends so", "it is cancelled meanwhile"])
def test_a_job_that_a_gpu_may_have_taken_is_made_again_only_if_that_is_meant(served: Fleet, how: str) -> None:
    served.endpoint("echo").add_fault(LoseAnswer(times=1))
    policy = "fail" if how == "it ends so" else "wait"
    job = Job(ryla_tasks.run_endpoint.delay("echo", {"a": 1}, on_unknown=policy).id)
    if policy == "wait":
        eventually(lambda: job.status is State.UNKNOWN, what="the answer is lost")
        job.cancel()
    eventually(lambda: job.status.ended, what="it ends")
    with pytest.raises(InvalidJob, match="pay for the same work twice"):
        job.retry()
    assert job.retry(may_pay_twice=True).wait(timeout=30)["data"]["a"] == 1


def test_a_retry_has_the_fallbacks_that_were_left(served: Fleet) -> None:
    job = never_sent(ryla_tasks.generate_image.s(template="z-image-danrisi", prompt="a hut"))
    old = job.record.spec
    assert old.fallbacks
    retried = job.retry()
    spec = retried.record.spec
    assert (spec.fallbacks, spec.label, spec.seed) == (old.fallbacks, old.label, old.seed)
    assert served.client.lrange(f"ryla:fallbacks:{retried.id}", 0, -1) == served.client.lrange(
        f"ryla:fallbacks:{job.id}", 0, -1
    )


def test_an_alias_is_made_again_from_the_job_that_it_stands_for(served: Fleet) -> None:
    from celery import group

    wish = {"simulate": {"seconds": 2, "fail": "no"}}
    first = Job(ryla_tasks.run_endpoint.delay("echo", wish, idempotency_key="k").id)
    (twin,) = group(ryla_tasks.run_endpoint.s("echo", wish, idempotency_key="k")).apply_async().children
    assert Job(twin.id).record.alias_of == first.id
    eventually(lambda: Job(twin.id).status.ended, what="both end")
    assert Job(twin.id).retry().record.spec.retry_of == first.id
    assert Job(twin.id).retry().id == first.retry().id


def test_of_a_sheet_what_is_missing_is_made(served: Fleet) -> None:
    served.endpoint("special").update(missing_models=("gone.safetensors",))
    angles = ["front", {"angle": "back", "checkpoint": "gone.safetensors"}]
    wish = {"image": picture(), "angles": angles, "width": 64, "height": 64}
    sheet = Job(ryla_tasks.make_character_sheet.delay(**wish, user_id="ann", tags=["t1"]).id)
    assert sheet.wait(timeout=30)["missing"] == ["back"]
    cell = next(cell for cell in sheet.cells if cell.name == "back")
    assert not served.client.exists(f"ryla:input:{cell.job_id}")
    with pytest.raises(InvalidJob, match="cell of the sheet"):
        Job(str(cell.job_id)).retry()
    served.endpoint("special").update(missing_models=())
    retried = sheet.retry()
    assert retried.wait(timeout=30)["missing"] == []
    spec = retried.record.spec
    assert (spec.resumes, spec.user_id, spec.tags) == (sheet.id, "ann", ("t1",))
    assert sheet.retry_missing().id == sheet.retry().id == retried.id
    with pytest.raises(InvalidJob, match="nothing is missing"):
        retried.retry()


# --- the command ---


def ryla(*arguments: str, code: Exit = Exit.OK, said: str | None = None) -> Result:
    result = CliRunner().invoke(cli, ["retry", *arguments], input=said)
    assert result.exit_code == code, result.output
    return result


def test_one_job_by_its_id(served: Fleet) -> None:
    job = ended(FAILING)
    out = ryla(job.id).output
    new = job.retry().id
    assert out == f"{job.id} -> {new}\n"
    assert ryla(job.id).output == f"{job.id} -> {new}  (was made before)\n"
    assert new not in ryla(job.id, "--again").output
    assert job.id in CliRunner().invoke(cli, ["show", new]).output
    assert "only a job that has ended" in ryla(never_ending().id, code=Exit.USAGE).output
    ryla(code=Exit.USAGE)
    ryla(job.id, "--kind", "image", code=Exit.USAGE)
    ryla("nonsense", code=Exit.NOT_FOUND)


def never_ending() -> Job:
    return Job(ryla_tasks.run_endpoint.delay("echo", {"simulate": {"never_end": True}}).id)


def test_all_that_failed_and_fit(served: Fleet) -> None:
    ann = [ended(FAILING, user_id="ann") for _ in range(2)]
    lost = ended({"simulate": {"no_output": True}}, user_id="ann")
    cancelled = never_sent(ryla_tasks.run_endpoint.s("echo", {"a": 1}, user_id="ann"))
    bob = ended(FAILING, user_id="bob")

    def planned(*options: str) -> set[str]:
        document = json.loads(ryla("--failed", "--dry-run", "--json", *options).output)
        assert document["dry_run"]
        assert all(one["new_id"] is None for one in document["jobs"])
        return {one["job_id"] for one in document["jobs"]}

    everybody = {job.id for job in (*ann, lost, bob)}
    assert planned() == planned("--kind", "special", "--endpoint", "echo", "--since", "1h") == everybody
    assert planned("--user", "ann", "--code", "worker_error") == {job.id for job in ann}
    assert planned("--user", "ann", "--code", "output_missing") == {lost.id}
    assert planned("--kind", "image") == planned("--since", "2100-01-01") == set()
    assert cancelled.id not in everybody
    made = json.loads(ryla("--failed", "--user", "ann", "--limit", "2", "--json").output)
    assert made["more"]
    assert all(one["is_new"] for one in made["jobs"])
    assert len({one["new_id"] for one in made["jobs"]}) == 2


def test_many_are_asked_about(served: Fleet) -> None:
    for _ in range(6):
        never_sent(ryla_tasks.run_endpoint.s("echo", {"a": 1}))
    served.client.zunionstore("ryla:idx:state:failed", ["ryla:idx:state:cancelled"])
    for job_id in served.client.zrange("ryla:idx:state:failed", 0, -1):
        served.client.hset(f"ryla:job:{job_id.decode()}", "state", "failed")
    assert "6 jobs would be made again" in ryla("--failed", "--json", code=Exit.USAGE).output
    assert "Aborted" in ryla("--failed", said="n\n", code=Exit.FAILED).output
    assert "6 made again" in ryla("--failed", said="y\n").output
    assert "6 made before" in ryla("--failed", "--yes").output


def test_a_job_of_a_task_of_ones_own_needs_its_app(served: Fleet) -> None:
    """In processes of their own: here the task is known as soon as a test has imported it."""
    job = ended(FAILING)
    served.client.hset(
        f"ryla:job:{job.id}", "spec", dataclasses.replace(job.record.spec, task="fallback.upscale").to_json()
    )
    command = [sys.executable, "-m", "ryla_tasks.cli", "retry", job.id]
    told = subprocess.run(command, env=served.env(), capture_output=True, text=True, timeout=60)
    assert told.returncode == Exit.USAGE
    assert "(--app)" in told.stderr
    app = ["--app", "tests.support.fallback_app"]
    made = subprocess.run([*command, *app], env=served.env(), capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    assert Job(made.stdout.split()[-1]).record.spec.task == "fallback.upscale"
    wrong = subprocess.run([*command, "--app", "no.such"], env=served.env(), capture_output=True, text=True, timeout=60)
    assert wrong.returncode == Exit.CONFIGURATION
