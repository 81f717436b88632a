"""The trainer's handler, with a real process in AI Toolkit's place: what goes well, and what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from trainer_bench import Bench, alive

from workers.common.storing import Store
from workers.lora_trainer import output
from workers.lora_trainer.tensors import read_header


@pytest.fixture
def store() -> Iterator[Store]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    store = Store(f"http://{host}:{port}", "trainings", "key", "secret")
    store._connected().create_bucket(Bucket="trainings")
    yield store
    server.stop()


def test_a_training_from_the_request_to_the_lora(bench: Bench) -> None:
    answer = bench.run(bench.request(sample_prompts=["[trigger] at the sea"], name="Ada"))
    volume = bench.settings.volume
    assert volume is not None
    lora = volume / "models" / "loras" / "cor-1.safetensors"
    assert answer["lora"]["data"] == str(lora)
    assert answer["lora"]["filename"] == "cor-1.safetensors"
    assert answer["lora"]["type"] == "volume"
    header = read_header(lora)
    assert header is not None
    assert header.step == 60
    assert answer["lora"]["bytes"] == header.bytes
    assert {name: answer[name] for name in ("steps", "base_model", "trigger_word", "name")} == {
        "steps": 60, "base_model": "flux", "trigger_word": "ohwx", "name": "Ada",
    }  # fmt: skip
    assert 0.05 < answer["final_loss"] < 0.55
    assert [file["kind"] for file in answer["files"]] == ["sample"] * 3
    assert all(Path(file["data"]).is_file() for file in answer["files"])
    assert bench.files.posted == [{"id": "r-1", "status": "IN_PROGRESS"}]
    assert bench.left() == []


def test_progress_is_told_as_it_goes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AITK_STEP_S", "0.02")
    monkeypatch.setenv("AITK_LOAD_S", "0.3")
    bench.run(bench.request())
    percents = [told["percent"] for told in bench.told]
    assert percents == sorted(percents)
    words = [told["message"] for told in bench.told]
    assert any(word.startswith(("Loading", "Caching latents to disk")) for word in words)
    trained = [told for told in bench.told if told["message"].startswith("Training: step ")]
    assert len(trained) > 5
    assert {told["steps"] for told in trained} == {60}
    assert [told["step"] for told in trained] == sorted(told["step"] for told in trained)
    assert 10 < trained[len(trained) // 2]["percent"] < 90
    assert all(0 < told["loss"] < 1 for told in trained if "loss" in told)
    assert any(0 < told.get("eta_s", 0) < 60 for told in trained)
    assert percents[-1] <= 99


def test_checkpoints_and_samples_are_stored_as_they_come(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store = store
    monkeypatch.setenv("AITK_SAVE_S", "0.2")
    answer = bench.run(bench.request(sample_prompts=["a", "b"]), volume=None)
    assert answer["lora"]["type"] == "s3_url"
    assert "/loras/cor-1/cor-1.safetensors?" in answer["lora"]["data"]
    stored = [file["filename"] for file in answer["files"] if file["kind"] == "checkpoint"]
    assert stored == ["cor-1_000000020.safetensors", "cor-1_000000040.safetensors"]
    assert sum(file["kind"] == "sample" for file in answer["files"]) == 6
    assert answer["warnings"][0] == "images.0.url is 96x128, smaller than the resolution of 512"
    assert bench.left() == []


def test_a_place_that_fails_is_a_warning_where_the_other_took_the_lora(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_PAUSE_S", 0.01)
    volume = bench.settings.volume
    assert volume is not None
    (volume / "models").write_text("no folder")
    bench.store = store
    answer = bench.run(bench.request(steps=5))
    assert answer["lora"]["type"] == "s3_url"
    assert any("not on the volume" in warning for warning in answer["warnings"])
    bench.store = None
    answer = bench.run(bench.request(steps=5, rank=8))
    assert answer["code"] == "training_failed"
    (volume / "models").unlink()
    bench.store = Store(store.endpoint, "no-such-bucket", "key", "secret")
    answer = bench.run(bench.request(steps=5, rank=4))
    assert answer["lora"]["type"] == "volume"
    assert any("on the volume only" in warning for warning in answer["warnings"])
    answer = bench.run(bench.request(steps=5, rank=2), volume=None)
    assert answer["code"] == "store_failed"


def test_a_checkpoint_counts_only_when_it_is_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk: the file has its name, and at times stands still, long before it is complete."""
    monkeypatch.setenv("AITK_SAVE_S", "3.2")
    monkeypatch.setenv("AITK_STEP_S", "0.001")
    volume = bench.settings.volume
    assert volume is not None
    kept = volume / "lora_trainer" / "job-1"

    def is_kept() -> bool:
        found = list(kept.glob("step_*.safetensors"))
        assert all(read_header(path) is not None for path in found)
        return bool(found)

    bench.run_and_cancel(bench.request(steps=10_000), is_kept)
    assert is_kept()


@pytest.mark.parametrize("at", [0, 25])
def test_a_cancel_stops_the_trainer_and_leaves_checkpoints(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at: int
) -> None:
    monkeypatch.setenv("AITK_PID_FILE", str(tmp_path / "pid"))
    monkeypatch.setenv("AITK_STORY_FILE", str(tmp_path / "story"))
    monkeypatch.setenv("AITK_LOAD_S", "5" if at == 0 else "0")
    volume = bench.settings.volume
    assert volume is not None
    kept = volume / "lora_trainer" / "job-1"
    wanted = (tmp_path / "pid").exists if at == 0 else (kept / "step_000000020.safetensors").exists
    took = bench.run_and_cancel(bench.request(steps=10_000), wanted)
    assert took < 2.0
    assert not alive(int((tmp_path / "pid").read_text()))
    assert (kept / "step_000000020.safetensors").exists() == (at > 0)
    if at > 0:
        assert (tmp_path / "story").read_text() == "began 0\ninterrupted\n"
    assert not (volume / "models").exists()
    assert bench.left() == []


def test_a_trainer_that_does_not_listen_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AITK_PID_FILE", str(tmp_path / "pid"))
    monkeypatch.setenv("AITK_MODE", "stubborn")
    took = bench.run_and_cancel(
        bench.request(steps=10_000), lambda: any(told.get("step", 0) > 5 for told in bench.told), stop_s=0.3
    )
    assert took < 3.0
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_stop_from_outside_is_no_success(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """AI Toolkit ends with 0 when it is interrupted, as if all were well."""
    monkeypatch.setenv("AITK_MODE", "no_lora")
    answer = bench.run(bench.request())
    assert answer["code"] == "training_failed"
    assert answer["details"]["exit_code"] == 0
    assert answer["error"] == "The training was stopped before its end."


@pytest.mark.parametrize("mode", ["oom", "oom_load"])
def test_want_of_memory_says_what_to_change(bench: Bench, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("AITK_MODE", mode)
    answer = bench.run(bench.request(resolution=[512, 1024], rank=32, batch_size=2))
    assert answer["code"] == "training_memory"
    assert answer["details"]["change"] == [
        {"field": "batch_size", "from": 2, "to": 1},
        {"field": "resolution", "from": [512, 1024], "to": [512]},
        {"field": "low_vram", "from": False, "to": True},
        {"field": "rank", "from": 32, "to": 16},
    ]
    assert answer["error"].endswith(
        "Try batch_size 1 instead of 2, or resolution [512] instead of [512, 1024], or low_vram true instead of false."
    )
    assert answer["details"]["phase"] == ("training" if mode == "oom" else "loading")
    assert answer["details"]["log"]


def test_steps_that_were_skipped_for_want_of_memory_are_a_warning(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITK_MODE", "oom_thrice")
    answer = bench.run(bench.request())
    assert "lora" in answer, answer
    assert "The GPU ran out of memory in some steps, which were skipped." in answer["warnings"]


@pytest.mark.parametrize(
    ("mode", "error_type", "words"),
    [
        ("crash", "ValueError", "mat1 and mat2"),
        ("gated", "GatedRepoError", "Cannot access gated repo"),
        ("disk_full", "OSError", "No space left on device"),
        ("gpu_broken", "RuntimeError", "CUDA error: an illegal memory access"),
        ("killed", "", ""),
    ],
)
def test_other_ends_of_the_trainer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, mode: str, error_type: str, words: str
) -> None:
    monkeypatch.setenv("AITK_MODE", mode)
    answer = bench.run(bench.request())
    assert answer["code"] == "training_failed"
    assert answer["details"]["error_type"] == error_type
    assert words in answer["details"]["error_message"]
    assert "it/s" not in answer["details"]["error_message"]
    assert ("main memory" in answer["error"]) == (mode == "killed")
    assert answer.get("refresh_worker") == (True if mode == "gpu_broken" else None)
    assert "hf_abcdefghij" not in json.dumps(answer)
    assert bench.left() == []


def test_a_loss_that_is_no_number_goes_back_as_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AITK_MODE", "nan")
    answer = bench.run(bench.request())
    assert answer["final_loss"] is None
    assert any("not a number" in warning for warning in answer["warnings"])


@pytest.mark.parametrize("limit", ["quiet_s", "time_limit_s"])
def test_a_trainer_that_hangs_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str
) -> None:
    monkeypatch.setenv("AITK_MODE", "hang")
    monkeypatch.setenv("AITK_PID_FILE", str(tmp_path / "pid"))
    answer = bench.run(bench.request(), **{limit: 1.5})
    assert answer["code"] == "training_time_out"
    assert 1 <= answer["details"]["step"] <= 10
    assert not alive(int((tmp_path / "pid").read_text()))


def test_the_trainer_gets_no_secrets_of_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AI Toolkit puts environment variables into its config wherever a text asks for one."""
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", "of-the-bucket")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_worker")
    answer = bench.run(bench.request(sample_prompts=["${HF_TOKEN} and ${BUCKET_SECRET_ACCESS_KEY}"]))
    assert "lora" in answer, answer
    volume = bench.settings.volume
    assert volume is not None
    told = b"".join(path.read_bytes() for path in volume.rglob("*") if path.is_file())
    assert b"hf_of_the_worker" not in told


def test_without_a_volume_and_a_store_nothing_is_begun(bench: Bench, tmp_path: Path) -> None:
    answer = bench.run(bench.request(), volume=None)
    assert answer["code"] == "trainer_misconfigured"
    assert "BUCKET_ENDPOINT_URL" in answer["error"]
    assert bench.files.asked == []
    answer = bench.run(bench.request(), toolkit=tmp_path)
    assert answer["code"] == "trainer_misconfigured"
