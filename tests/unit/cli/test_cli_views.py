"""What a person and a program see of a job that goes on."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from ryla_tasks.cli.documents import event_document, job_document, local_time, moment
from ryla_tasks.cli.following import end_code, print_end
from ryla_tasks.cli.local import LocalRunPod, environment_file, local_settings, without_settings
from ryla_tasks.cli.views import BarView, JsonView, LineView
from ryla_tasks.errors import OutputMissing
from ryla_tasks.jobs.ending import error_ending, result_ending
from ryla_tasks.jobs.record import JobRecord, JobSpec
from ryla_tasks.jobs.states import State
from ryla_tasks.settings import Settings
from ryla_tasks.store.events import Event

SPEC = JobSpec(task="ryla.generate_image", kind="image", endpoint="image", label="z-image-turbo")


def event(at_ms: int, phase: str, percent: float, message: str, **more: object) -> Event:
    return Event(f"{at_ms}-0", "state", {"phase": phase, "percent": percent, "message": message, **more})


EVENTS = [
    event(1000, "queued", 0, "In line", eta_s=10.0),
    event(2500, "running", 11, "step 1", eta_s=3.0),
    event(2600, "running", 14, "step 2"),
    event(3000, "running", 22, "[red]step 3[/red]"),
    event(4000, "completed", 100, "Done", eta_s=0.0),
]


def screen(*, terminal: bool) -> Console:
    return Console(
        file=io.StringIO(), width=120, force_terminal=terminal, markup=False, emoji=False, highlight=False,
        legacy_windows=False,
    )  # fmt: skip


def shown(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_lines_come_for_each_phase_and_each_tenth() -> None:
    out = screen(terminal=False)
    with LineView(out) as view:
        for one in EVENTS:
            view.show(one)
        view.show(Event("5000-0", "undelivered", {}))
    lines = [line.split() for line in shown(out).splitlines()]
    assert [(words[0], words[2], words[4]) for words in lines] == [
        ("0.0", "0", "queued"),
        ("1.5", "11", "running"),
        ("2.0", "22", "running"),
        ("3.0", "100", "completed"),
    ]
    assert "[red]step 3[/red]" in shown(out)


def test_the_bar_shows_the_last_state() -> None:
    out = screen(terminal=True)
    with BarView(out) as view:
        for one in EVENTS[:2]:
            view.show(one)
        view.show(Event("5000-0", "undelivered", {}))
    last = [line for line in shown(out).splitlines() if "%" in line][-1]
    for word in ("running", "11%", "step 1", "about 3 s left"):
        assert word in last


def test_json_lines_are_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonView() as view:
        for one in EVENTS:
            view.show(one)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [event_document(e) for e in EVENTS]
    assert event_document(EVENTS[0])["at"] == "1970-01-01T00:00:01.000+00:00"


def test_a_job_that_failed_is_told_with_its_error() -> None:
    ending = error_ending(OutputMissing, "No image came.", details={"worker": "w1"})
    record = JobRecord("job-1", SPEC, state=State.FAILED, created=1.0, ended=2.0, ending=ending)
    out = screen(terminal=False)
    print_end(out, record, [])
    assert shown(out).splitlines() == ["Failed: No image came. (OutputMissing)", "Details: {'worker': 'w1'}"]
    document = job_document(record, 3.0)
    assert document["error"] == {
        "type": "OutputMissing", "message": "No image came.", "code": "output_missing", "category": "permanent",
        "details": {"worker": "w1"},
    }  # fmt: skip
    assert (document["result"], end_code(record)) == (None, 1)
    json.dumps(document)


def test_a_job_that_completed_is_told_with_its_time_and_cost() -> None:
    result = {
        "artifacts": [
            {"key": "image/a.png", "content_type": "image/png", "bytes": 7, "sha256": "0", "filename": "a.png"}
        ],
        "warnings": ["a warning"],
        "timings": {"total_s": 12.34, "executed_s": 4.0},
        "cost": {"usd": 0.00124},
        "data": None,
    }
    record = JobRecord("job-1", SPEC, state=State.COMPLETED, created=1.0, ended=2.0, ending=result_ending(result))
    out = screen(terminal=False)
    print_end(out, record, [])
    assert shown(out).splitlines() == [
        "Done after 12.3 s (4.0 s on the GPU) for about $0.00124",
        "Warning: a warning",
        "image/a.png  image/png  7 bytes",
    ]
    assert (job_document(record, 3.0)["result"], end_code(record)) == (result, 0)


def test_times_that_are_not_yet_are_nothing() -> None:
    assert (moment(0.0), local_time(0.0)) == (None, "-")


def test_the_settings_of_a_local_system_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runpod = LocalRunPod(tmp_path, ["image", "my-own"], port=8123)
    settings = local_settings("redis://127.0.0.1:1/0", runpod, tmp_path / "files", poll_min_s=0.5)
    users = {"RYLA_ENDPOINT_IMAGE": "real", "RUNPOD_API_KEY": "real", "RYLA_TIMEZONE": "Europe/Berlin", "HOME": "/x"}
    assert without_settings(users) == {"HOME": "/x"}
    kept = without_settings(users, places_only=True)
    assert kept == {"RUNPOD_API_KEY": "real", "RYLA_TIMEZONE": "Europe/Berlin", "HOME": "/x"}
    for name in [name for name in os.environ if name.startswith(("RYLA_", "RUNPOD_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "env").write_text(environment_file({**kept, **settings}))
    monkeypatch.setenv("RYLA_ENV_FILE", str(tmp_path / "env"))
    read = Settings()
    assert read.runpod_url == "http://127.0.0.1:8123/v2"
    assert read.api_key_for().get_secret_value() == "simulated-key"
    assert {name: one.primary.endpoint_id for name, one in read.endpoints.items()} == {
        "image": "image",
        "my-own": "my-own",
    }
    assert (read.endpoint("image").poll_min_s, read.timezone) == (0.5, "Europe/Berlin")
