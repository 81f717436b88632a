"""`ryla run`, `watch`, `show`, `list`, `cancel` and `endpoints` as processes, against a fleet with a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from ryla_tasks.cli import cli
from ryla_tasks.cli.exits import Exit
from tests.support.fleet import Fleet, eventually

RYLA = [sys.executable, "-m", "ryla_tasks.cli"]


class Cli:
    """Runs `ryla` with the settings that this process has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*RYLA, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: Exit = Exit.OK, **env: str) -> str:
        process = self.start(*arguments, **env)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == code, (arguments, process.returncode, out, errors)
        assert "Traceback" not in errors
        if code in (Exit.OK, Exit.FAILED):
            return out
        assert errors.startswith(("Error: ", "Usage: ")), errors
        return errors

    def json(self, *arguments: str, code: Exit = Exit.OK) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def ryla(served: Fleet, tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_an_image_from_the_prompt_to_the_file(ryla: Cli) -> None:
    wish = "--param width=256 --param height=128 --user ann --tag t1 --priority high --out pictures --timeout 30"
    wish = "--param width=256 --param height=128 --user ann --tag t1 --priority high --out pictures --timeout 30"
    job = ryla.json("run", "image", "-p", "a red fox", *wish.split())
    assert (job["status"], job["percent"], job["error"]) == ("completed", 100.0, None)
    assert (job["user_id"], job["tags"], job["priority"], job["label"]) == ("ann", ["t1"], "high", "z-image-turbo")
    (file,) = job["files"]
    with Image.open(ryla.folder / file) as image:
        assert (image.format, image.size) == ("PNG", (256, 128))
    shown = ryla.json("show", job["job_id"], "--events")
    phases = [event["phase"] for event in shown["events"] if event["type"] in ("created", "state")]
    assert (phases[0], phases[-1]) == ("queued", "completed")
    assert shown["result"] == job["result"]
    assert [one["job_id"] for one in ryla.json("list", "--user", "ann", "--status", "completed")] == [job["job_id"]]
    assert ryla.json("list", "--user", "bob") == []
    assert job["job_id"] in ryla("list", "--kind", "image", "--endpoint", "image", "--limit", "1")
    text = ryla("show", job["job_id"], "--events")
    assert job["remote_id"] in text
    assert job["result"]["artifacts"][0]["key"] in text


def test_plain_lines_for_a_person_without_a_terminal(ryla: Cli) -> None:
    out = ryla("run", "endpoint", "echo", "--input", '{"a": 1, "simulate": {"seconds": 0.2}}', "--timeout", "30")
    assert out.startswith("Job ")
    assert "queued" in out.splitlines()[1]
    assert any("completed" in line and "100 %" in line for line in out.splitlines())
    assert "\x1b" not in out


def test_a_job_enqueued_without_waiting_is_watched_to_its_failure(ryla: Cli) -> None:
    (ryla.folder / "input.json").write_text('{"simulate": {"seconds": 0.3, "fail": "CUDA out of memory"}}')
    asked = ryla.json("run", "endpoint", "lora", "--input", "@input.json", "--no-wait", "--idempotency-key", "k")
    again = ryla.json("run", "endpoint", "lora", "--input", "@input.json", "--no-wait", "--idempotency-key", "k")
    assert again["job_id"] == asked["job_id"]
    lines = ryla("watch", asked["job_id"], "--json", "--timeout", "60", code=Exit.FAILED).splitlines()
    *events, end = [json.loads(line) for line in lines]
    assert events[0]["type"] == "created"
    assert events[-1]["phase"] == "failed"
    assert (end["type"], end["status"], end["error"]["type"]) == ("end", "failed", "JobFailed")
    assert "CUDA out of memory" in json.dumps(end["error"]["details"])
    assert "CUDA out of memory" in ryla("show", asked["job_id"])


def test_a_running_job_is_cancelled_at_runpod_too(ryla: Cli, served: Fleet) -> None:
    wish = ["run", "endpoint", "echo", "--input", '{"simulate": {"never_end": true}}']
    job_id = ryla(*wish, "--no-wait").strip()
    eventually(lambda: ryla.json("show", job_id)["status"] == "running", what="the job runs")
    waited = ryla(*wish, "--timeout", "0.5", code=Exit.TIMED_OUT)
    assert "it goes on" in waited
    ended = ryla.json("cancel", job_id, "--wait", "--timeout", "30")
    assert (ended["asked"], ended["status"], ended["cancel"]) == (True, "cancelled", "user")
    remote = served.endpoint("echo").job(ended["remote_id"])
    assert remote.status == "CANCELLED"
    assert "Too late" in ryla("cancel", job_id, code=Exit.FAILED)


def test_endpoints_and_their_health(ryla: Cli) -> None:
    rows = {row["endpoint"]: row for row in ryla.json("endpoints")}
    assert rows["image"]["target"] == "runpod:img"
    assert rows["image"]["workers"]["ready"] > 0
    assert "runpod:img" in ryla("endpoints", "--no-health")
    wrong = ryla.start("endpoints", "--json", RUNPOD_API_KEY="wrong")
    out, _ = wrong.communicate(timeout=60)
    assert wrong.returncode == Exit.CONFIGURATION
    assert all("Unauthorized" in row["error"] for row in json.loads(out))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "no-such-job"], Exit.NOT_FOUND, "no job no-such-job"),
        (["watch", "no-such-job"], Exit.NOT_FOUND, "no job no-such-job"),
        (["cancel", "no-such-job"], Exit.NOT_FOUND, "no job no-such-job"),
        (["run", "image"], Exit.USAGE, "prompt"),
        (["run", "image", "-p", "x", "--template", "nonsense"], Exit.USAGE, "z-image-turbo"),
        (["run", "image", "-p", "x", "--param", "width=wide"], Exit.USAGE, "width"),
        (["run", "endpoint", "echo", "--input", "{"], Exit.USAGE, "--input: is not JSON"),
        (["run", "endpoint", "echo", "--input", "@none.json"], Exit.USAGE, "none.json"),
        (["run", "endpoint", "nix", "--input", '{"a": 1}'], Exit.CONFIGURATION, "RYLA_ENDPOINT_NIX"),
    ],
)
@pytest.mark.usefixtures("served")
def test_bad_input_is_one_line_and_a_code(arguments: list[str], code: Exit, says: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert says in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_redis_that_is_not_there_is_5(ryla: Cli) -> None:
    # Port 1 of the loopback address refuses connections.
    nowhere = {"RYLA_REDIS_URL": "redis://127.0.0.1:1/0"}
    assert "Redis" in ryla("list", code=Exit.UNREACHABLE, **nowhere)
    assert "Redis" in ryla("show", "some-job", code=Exit.UNREACHABLE, **nowhere)


def test_a_comfyui_workflow_from_a_file(ryla: Cli) -> None:
    from ryla_tasks.workflows import get_template

    workflow = get_template("z-image-turbo").render_with({"prompt": "x", "width": 64, "height": 64}).workflow
    (ryla.folder / "workflow.json").write_text(json.dumps(workflow))
    job = ryla.json("run", "image", "--workflow", "workflow.json", "--timeout", "30")
    assert (job["status"], job["label"]) == ("completed", "workflow")


def here(*arguments: str, code: Exit = Exit.OK) -> Any:
    """A command in this process, which saves the start of another."""
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code in (Exit.OK, Exit.FAILED) else str(done.exception or done.output)


def test_sheets_variations_and_swaps(ryla: Cli) -> None:
    face, out = str(ryla.folder / "me.png"), str(ryla.folder / "out")
    Image.new("RGB", (64, 64), (9, 9, 9)).save(face)
    size = ["--param", "width=64", "--param", "height=64", "--out", out]
    done = here("run", "sheet", "--base", face, "--angle", "front", "--angle", "back", *size)
    assert [cell["status"] for cell in done["result"]["cells"]] == ["completed", "completed"]
    assert [Path(file).name.split("-")[1] for file in done["files"]] == ["front", "back"]
    shown = here("show", done["job_id"])
    ends = {cell["name"]: cell["status"] for cell in shown["cells"]}
    assert ends == {"front": "completed", "back": "completed"}
    assert f"{done['job_id']}-front" in ryla("show", done["job_id"], COLUMNS="160")
    here("run", "sheet", "--resume", done["job_id"], code=Exit.USAGE)
    many = here("run", "variations", "-p", "a hut", "-n", "2", "--seed", "4", *size)
    assert [one["seed"] for one in many["result"]["variations"]] == [4, 4]
    swapped = here("run", "swap", "--base", face, "--face", face)
    assert swapped["label"] == "face-swap-reactor"
    assert [job["label"] for job in here("list")] == ["face-swap-reactor", "z-image-turbo", "character-sheet-pose"]


def test_a_training(served: Fleet) -> None:
    served.endpoint("lora").update(program="lora")
    urls = [f"--image=https://example.org/{number}.png" for number in range(3)]
    done = here("run", "train", "--trigger-word", "me", *urls, "--steps", "5", "--name", "Me")
    assert done["result"]["data"]["steps"] == 5
    here("run", "train", "--trigger-word", "me", *urls[:2], code=Exit.USAGE)
