"""`ryla export`: jobs, events, results and files, written out a page at a time and without secrets."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ryla_tasks
from ryla_tasks import Job
from ryla_tasks.cli import cli
from ryla_tasks.cli.exits import Exit
from ryla_tasks.errors import JobError
from tests.support.fleet import Fleet
from tests.support.pictures import picture


def run(*arguments: str, code: Exit = Exit.OK) -> tuple[str, str]:
    result = CliRunner().invoke(cli, ["export", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def exported(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments)[0].splitlines()]


def echo(job_input: dict[str, Any], **options: Any) -> Job:
    job = Job(ryla_tasks.run_endpoint.delay("echo", job_input, **options).id)
    if "fail" in job_input.get("simulate", {}):
        with pytest.raises(JobError):
            job.wait(timeout=30)
    else:
        job.wait(timeout=30)
    return job


def test_all_of_a_job_but_its_secrets(served: Fleet, tmp_path: Path) -> None:
    image = Job(ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a topsecret", width=64, height=64).id)
    image.wait(timeout=30)
    url = "https://bucket.example/out.png?X-Amz-Signature=topsecret"
    told = echo(
        {"prompt": "topsecret", "simulate": {"output": {"url": url, "said": "Bearer topsecret"}}}, user_id="ann"
    )
    failed = echo({"simulate": {"fail": f"no such file {url}"}}, user_id="ann", tags=["t1"])
    out, err = run("--files", str(tmp_path / "files"), "--out", str(tmp_path / "jobs.jsonl"))
    assert (out, err) == ("", "3 jobs, 1 file\n")
    text = (tmp_path / "jobs.jsonl").read_text()
    assert "topsecret" not in text
    newest, middle, oldest = [json.loads(line) for line in text.splitlines()]
    assert [newest["job_id"], middle["job_id"], oldest["job_id"]] == [failed.id, told.id, image.id]
    assert (newest["error"]["code"], newest["tags"], newest["user_id"]) == ("worker_error", ["t1"], "ann")
    assert middle["result"]["data"]["url"] == "https://bucket.example/..."
    (key,) = oldest["files"]
    assert oldest["result"]["artifacts"][0]["key"] == key
    assert (tmp_path / "files" / key).read_bytes() == image.artifact_bytes(image.artifacts[0])
    assert oldest["events"][0]["type"] == "created"
    assert oldest["events"][-1]["phase"] == "completed"
    assert len(oldest["events"]) == len(list(image.events()))


def test_what_is_left_out(served: Fleet) -> None:
    first = echo({"a": 1}, user_id="ann")
    time.sleep(0.01)
    between = time.time()
    second = echo({"a": 1}, user_id="bob")
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(between)) + f".{int(between % 1 * 1e6):06d}"
    assert [one["job_id"] for one in exported("--since", moment)] == [second.id]
    assert [one["job_id"] for one in exported("--until", moment)] == [first.id]
    assert [one["job_id"] for one in exported("--user", "ann", "--kind", "special")] == [first.id]
    assert exported("--status", "failed") == exported("--endpoint", "image") == []
    run("--since", "1h", "--until", "2h", code=Exit.USAGE)
    run("--since", "yesterday", code=Exit.USAGE)


def test_rows_for_a_spreadsheet(served: Fleet) -> None:
    echo({"a": 1}, user_id='=HYPERLINK("http://x")', tags=["t1", "t2"])
    echo({"simulate": {"fail": "no"}}, user_id="ann")
    out, err = run("--format", "csv", "--json")
    assert json.loads(err) == {"type": "end", "jobs": 2, "files": 0, "missing": []}
    failed, done = csv.DictReader(io.StringIO(out))
    assert (failed["status"], failed["error_code"], failed["user_id"]) == ("failed", "worker_error", "ann")
    assert (done["user_id"], done["tags"]) == ('\'=HYPERLINK("http://x")', "t1 t2")
    assert done["created"].endswith("+00:00")


def test_files_that_are_gone_are_named(served: Fleet, tmp_path: Path) -> None:
    image = Job(ryla_tasks.generate_image.delay(template="z-image-turbo", prompt="a hut", width=64, height=64).id)
    (artifact,) = image.wait(timeout=30)["artifacts"]
    (served.folder / "artifacts" / artifact["key"]).unlink()
    _out, err = run("--files", str(tmp_path), code=Exit.FAILED)
    assert err.splitlines() == [f"gone: {artifact['key']}", "1 job, 0 files"]


def test_cells_of_sheets_are_there_and_a_page_is_no_end(served: Fleet) -> None:
    sheet = Job(
        ryla_tasks.make_character_sheet.delay(image=picture(), angles=["front", "back"], width=64, height=64).id
    )
    sheet.wait(timeout=30)
    rows = exported()
    assert {(one["sheet"], one["cell"]) for one in rows} == {(None, None), (sheet.id, "front"), (sheet.id, "back")}
    store = ryla_tasks.tasks.runtime.runtime_of(ryla_tasks.app).store
    job = served.client.hgetall(f"ryla:job:{sheet.id}-front")
    for number in range(450):
        served.client.hset(f"ryla:job:n{number}", mapping={**job, b"created": str(number // 2)})
        served.client.zadd(f"{store.prefix}:idx:all", {f"n{number}": number // 2})
    assert len({one["job_id"] for one in exported()}) == 453
