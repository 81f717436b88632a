"""A worker is lost in the middle of a training; the next one goes on from its newest checkpoint."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from trainer_bench import Bench, alive

from tests.support.fleet import eventually
from workers.lora_trainer.resume import Kept, sweep

ROOT = Path(__file__).parents[3]

WORKER = """
import asyncio, json, sys
from workers.lora_trainer.handler import make_handler
print(json.dumps(asyncio.run(make_handler()(json.loads(sys.stdin.read())))))
"""


def start_worker(bench: Bench, request: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
    settings = bench.settings
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RYLA_TRAINER_TOOLKIT": str(settings.toolkit),
        "RYLA_VOLUME": str(settings.volume),
        "RYLA_TRAINER_WORK": str(settings.work),
        "RYLA_TRAINER_POLL_S": "0.05",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], env=env, stdin=subprocess.PIPE, stdout=log.open("wb"), stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"id": "r-1", "input": request}).encode())
    process.stdin.close()
    return process


def kept_folder(bench: Bench) -> Path:
    assert bench.settings.volume is not None
    return bench.settings.volume / "lora_trainer" / "job-1"


def test_after_a_kill_the_next_worker_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AITK_PID_FILE", str(tmp_path / "pid"))
    monkeypatch.setenv("AITK_STEP_S", "0.02")
    request = bench.request(steps=120)
    worker = start_worker(bench, request, tmp_path / "log")
    eventually(
        lambda: (kept_folder(bench) / "step_000000040.safetensors").exists() or worker.poll() is not None,
        what="a checkpoint on the volume",
    )
    assert worker.poll() is None, (tmp_path / "log").read_text()
    trainer = int((tmp_path / "pid").read_text())
    worker.kill()
    worker.wait(10)
    eventually(lambda: not alive(trainer), timeout=5, what="the trainer is gone with its worker")
    assert bench.left()

    # Another attempt of the same job: other ids, other signatures, the same LoRA.
    for image in request["images"]:
        image["url"] = image["url"].replace("secret", "renewed")
    again = {**request, "ryla": {**request["ryla"], "attempt": 2, "correlation_id": "cor-2"}}
    answer = bench.run(again, remote_id="r-2")
    assert answer["lora"]["filename"] == "cor-2.safetensors"
    first = next(told for told in bench.told if "step" in told)
    assert first["step"] >= 40
    assert first["message"].endswith(f"to go on from step {first['step']}")
    assert first["percent"] > 20
    assert list(kept_folder(bench).glob("step_*")) == []


def test_a_trainer_that_says_nothing_ends_with_its_worker_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that prints finds its pipe broken; this one is in the middle of a long step."""
    monkeypatch.setenv("AITK_MODE", "hang")
    monkeypatch.setenv("AITK_STORY_FILE", str(tmp_path / "story"))
    monkeypatch.setenv("AITK_PID_FILE", str(tmp_path / "pid"))
    worker = start_worker(bench, bench.request(), tmp_path / "log")
    story = tmp_path / "story"
    eventually(lambda: story.exists() and "hangs" in story.read_text(), what="the trainer is silent")
    worker.kill()
    worker.wait(10)
    trainer = int((tmp_path / "pid").read_text())
    try:
        eventually(lambda: not alive(trainer), timeout=5, what="the trainer is gone with its worker")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(trainer, signal.SIGKILL)


def test_an_answer_that_was_lost_is_given_again_without_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    request = bench.request()
    first = bench.run(request)
    monkeypatch.setenv("AITK_MODE", "crash")
    second = bench.run(request)
    assert second["lora"] == first["lora"]
    assert second["final_loss"] == first["final_loss"]
    assert any("earlier worker" in warning for warning in second["warnings"])
    # Another request under the same job is another LoRA: it is trained, and fails here.
    assert bench.run({**request, "rank": 8})["code"] == "training_failed"


def test_a_lora_that_is_damaged_is_not_given_again(bench: Bench) -> None:
    request = bench.request()
    first = bench.run(request)
    lora = Path(first["lora"]["data"])
    lora.write_bytes(lora.read_bytes()[:-1])
    assert bench.run(request)["lora"] == first["lora"]
    assert "Training" in "".join(told["message"] for told in bench.told[-5:])


def test_a_checkpoint_that_is_not_whole_is_passed_over(bench: Bench, tmp_path: Path) -> None:
    request = bench.request(steps=10_000)
    bench.run_and_cancel(request, (kept_folder(bench) / "step_000000040.safetensors").exists)
    newest = sorted(kept_folder(bench).glob("step_*"))
    whole = newest[-1].read_bytes()
    (kept_folder(bench) / "step_000009000.safetensors").write_bytes(whole[: len(whole) // 2])
    bench.told.clear()
    answer = bench.run({**request, "ryla": {**request["ryla"], "correlation_id": "cor-2"}}, time_limit_s=1.5)
    assert answer["code"] == "training_time_out"
    assert next(told for told in bench.told if "step" in told)["step"] == int(newest[-1].stem[-9:])


def test_what_nobody_works_on_is_swept(tmp_path: Path) -> None:
    old, new = Kept(tmp_path, "old", "f"), Kept(tmp_path, "new", "f")
    old.open()
    new.open()
    then = time.time() - 8 * 86_400
    os.utime(tmp_path / "lora_trainer" / "old" / "about.json", (then, then))
    assert sweep(tmp_path, 7) == 1
    assert [folder.name for folder in (tmp_path / "lora_trainer").iterdir()] == ["new"]
