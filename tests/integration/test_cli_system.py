"""`ryla demo`, `ryla dev` and `ryla worker` for real: what they start, what they leave."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from PIL import Image

from tests.support.fleet import Fleet, eventually

ROOT = Path(__file__).parents[2]
RYLA = [sys.executable, "-m", "ryla_tasks.cli"]
MARK = "MARK_OF_A_TEST"


class Marked:
    """Processes that are found again, with all that they start, by a variable in their environment."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        ours = ("RYLA_", "RUNPOD_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env = {**kept, "PYTHONPATH": str(ROOT), MARK: self.mark, "PYTHONUNBUFFERED": "1"}

    def alive(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_marked(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*RYLA, *arguments], env={**self.env, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


@pytest.fixture
def marked() -> Iterator[Marked]:
    processes = Marked()
    yield processes
    for process in processes.alive():
        process.kill()


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    """The lines of a process as they come, collected by a thread."""
    lines: list[str] = []
    assert process.stdout is not None
    stdout = process.stdout
    threading.Thread(target=lambda: lines.extend(iter(stdout.readline, "")), daemon=True).start()
    return lines


def end_of(process: subprocess.Popen[str], marked: Marked, timeout: float = 30) -> int:
    """The exit code; nothing that the process started may be left then."""
    code = process.wait(timeout)
    eventually(lambda: not marked.alive(), timeout=5, what="all children gone")
    return code


def on_a_terminal(command: list[str], env: dict[str, str]) -> tuple[subprocess.Popen[bytes], list[bytes]]:
    """Start a command with a terminal as its standard output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, env={**env, "TERM": "xterm-256color", "COLUMNS": "110"}, stdout=theirs)
    os.close(theirs)
    chunks: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(ours, 65_536):
                chunks.append(chunk)
        except OSError:  # how Linux tells that the other end is closed
            os.close(ours)

    threading.Thread(target=read, daemon=True).start()
    return process, chunks


def test_demo_leaves_a_picture_and_nothing_else(marked: Marked, tmp_path: Path) -> None:
    # A user's settings must not matter: neither of these endpoints may be asked for anything.
    users = {
        "RYLA_ENDPOINT_IMAGE": "real-endpoint",
        "RYLA_RUNPOD_URL": "http://127.0.0.1:1",
        "RYLA_TIMEZONE": "nonsense",
    }
    start = time.monotonic()
    plain = marked.start("demo", "--json", "--out", str(tmp_path / "json"), **users)
    terminal, chunks = on_a_terminal([*RYLA, "demo", "--out", str(tmp_path / "tty")], marked.env)
    out, _ = plain.communicate(timeout=60)
    assert terminal.wait(60) == 0
    took = time.monotonic() - start
    *events, end = [json.loads(line) for line in out.splitlines()]
    assert (plain.returncode, end["type"], end["status"]) == (0, "end", "completed")
    phases = list(dict.fromkeys(event["phase"] for event in events))
    assert phases[0] == "queued"
    assert {"waiting", "running"} <= set(phases)
    assert phases[-1] == "completed"
    assert sum(1 for event in events if 0 < event["percent"] < 100) > 0, "no progress was seen"
    assert end["result"]["cost"]["usd"] > 0
    assert end["files"] == [str(file) for file in (tmp_path / "json").iterdir()]
    for folder in ("json", "tty"):
        (file,) = (tmp_path / folder).iterdir()
        with Image.open(file, formats=["PNG"]) as image:
            image.load()
            assert image.size == (768, 512)
    text = eventually(lambda: b"".join(chunks).decode() if b"All in all" in b"".join(chunks) else "")
    for word in ("━", "Waiting for a GPU", "step 4 of 8", "100%", "Done after"):
        assert word in text
    assert took < 30, "two demonstrations side by side"
    eventually(lambda: not marked.alive(), timeout=5, what="all children gone")


def test_demo_that_is_interrupted_leaves_nothing(marked: Marked, tmp_path: Path) -> None:
    process = marked.start("demo", "--out", str(tmp_path / "out"))
    lines = lines_of(process)
    eventually(lambda: any("queued" in line for line in lines), what="the job is enqueued")
    assert len(marked.alive()) >= 4
    process.send_signal(signal.SIGTERM)
    assert end_of(process, marked) == 130
    assert not (tmp_path / "out").exists()


class Dev:
    """A running `ryla dev --json`."""

    def __init__(self, marked: Marked, data: Path, *options: str) -> None:
        self.process = marked.start("dev", "--json", "--data", str(data), *options)
        self.lines = lines_of(self.process)
        self.ready: dict[str, Any] = json.loads(eventually(lambda: self.lines[:1], what="dev is ready")[0])

    def said(self, process: str, text: str) -> bool:
        documents = [json.loads(line) for line in list(self.lines[1:])]
        return any(one["process"] == process and text in one["line"] for one in documents)


def test_dev_runs_all_restarts_the_worker_and_stops_all(marked: Marked, tmp_path: Path) -> None:
    dev = Dev(marked, tmp_path / "data")
    flower = dev.ready["urls"]["flower"]

    def flower_answers() -> bool:
        try:
            return requests.get(f"{flower}/healthcheck", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    eventually(flower_answers, what="Flower")
    eventually(lambda: dev.said("web", "Running on"), what="the Flask app")
    assert "Describe a picture" in requests.get(dev.ready["urls"]["web"], timeout=10).text
    eventually(lambda: dev.said("worker", " ready."), what="the worker")
    os.kill(dev.ready["pids"]["worker"], signal.SIGKILL)
    eventually(lambda: dev.said("dev", "worker is started again"), what="the restart")
    # The file with the settings is all that another terminal needs.
    env = {**marked.env, "RYLA_ENV_FILE": str(tmp_path / "data" / "env")}
    workflow = {"1": {"class_type": "SaveImage", "inputs": {}}}
    job_input = json.dumps({"workflow": workflow, "simulate": {"seconds": 0.1}})
    wish = ["run", "endpoint", "special", "--input", job_input, "--json", "--timeout", "60"]
    job = json.loads(subprocess.run([*RYLA, *wish], env=env, capture_output=True, check=True, timeout=90).stdout)
    assert job["status"] == "completed"
    dev.process.send_signal(signal.SIGINT)
    assert end_of(dev.process, marked) == 0
    assert dev.said("dev", "all are stopped")


def test_dev_ends_with_1_when_another_part_ends(marked: Marked, tmp_path: Path) -> None:
    dev = Dev(marked, tmp_path / "data", "--no-flower", "--no-web")
    assert (dev.ready["urls"]["flower"], dev.ready["urls"]["web"]) == (None, None)
    os.kill(dev.ready["pids"]["redis"], signal.SIGKILL)
    assert end_of(dev.process, marked) == 1
    assert dev.said("dev", "Redis has ended")


def test_a_worker_that_is_killed_comes_back_and_ends_its_job(fleet: Fleet, marked: Marked) -> None:
    env = {**fleet.settings, "RYLA_ENDPOINT_ECHO": '{"endpoint_id":"echo","poll_min_s":0.25,"poll_max_s":1}'}
    worker = marked.start("worker", "--json", "--concurrency", "2", "--app", "workers.celery_worker", **env)
    lines = lines_of(worker)
    eventually(lambda: any(" ready." in line for line in lines), what="the worker is ready")
    wish = ["run", "endpoint", "echo", "--input", '{"simulate": {"seconds": 4}}', "--json", "--timeout", "60"]
    job = marked.start(*wish, **env)
    eventually(lambda: fleet.endpoint("echo").counters().accepted, what="the job is at RunPod")
    (child,) = [one for one in psutil.Process(worker.pid).children() if "celery" in one.cmdline()]
    child.kill()
    document = json.loads(job.communicate(timeout=60)[0])
    assert (document["status"], document["attempt"]) == ("completed", 1)
    said = [json.loads(line)["message"] for line in lines if line.startswith('{"type": "supervisor"')]
    assert [text for text in said if "SIGKILL; starting it again in 1 s" in text]
    worker.send_signal(signal.SIGTERM)
    assert end_of(worker, marked, timeout=60) == 0
