"""The folders of a network volume, made visible to ComfyUI."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workers.comfyui.settings import Settings
from workers.comfyui.volume import FOLDERS, connect, extra_model_paths


def put(path: Path, size: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_every_folder_that_comfyui_knows_is_mapped(tmp_path: Path) -> None:
    mapped = yaml.safe_load(extra_model_paths(tmp_path / 'with "quotes": yes', ("my_folder",)))["ryla_volume"]
    assert mapped["base_path"] == str(tmp_path / 'with "quotes": yes')
    assert mapped["text_encoders"].split() == ["text_encoders/", "clip/"]
    assert mapped["diffusion_models"].split() == ["diffusion_models/", "unet/"]
    assert mapped["my_folder"].split() == ["my_folder/"]
    assert set(FOLDERS) < set(mapped)


def test_a_volume_is_connected_and_reported(tmp_path: Path) -> None:
    volume, comfy = tmp_path / "volume", tmp_path / "comfy"
    put(volume / "models/loras/a.safetensors", 10)
    put(volume / "models/insightface/models/antelopev2/a.onnx")
    put(volume / "models/pulid/p.safetensors")
    put(volume / "models/reactor/faces/b.safetensors")
    put(volume / "models/my_models/x.safetensors")
    put(comfy / "models/insightface/inswapper_128.onnx", 7)
    put(comfy / "models/reactor/faces/a.safetensors")
    (comfy / "extra_model_paths.yaml").write_text("mine:\n  base_path: /x\n")
    for _ in range(2):
        report = connect(volume, comfy)
        models = comfy / "models"
        assert (models / "pulid").is_symlink()
        assert (models / "pulid/p.safetensors").read_bytes()
        assert (models / "insightface/models/antelopev2/a.onnx").exists()
        assert (models / "insightface/inswapper_128.onnx").stat().st_size == 7, "the image's own file stays"
        assert {path.name for path in (models / "reactor/faces").iterdir()} == {"a.safetensors", "b.safetensors"}
        written = yaml.safe_load((comfy / "extra_model_paths.yaml").read_text())
        assert set(written) == {"mine", "ryla_volume"}
        assert "my_models" in written["ryla_volume"]
        assert report.folders["loras"] == {"files": 1, "bytes": 10}
        assert report.extra == ["my_models"]
        assert report.problems == []


def test_a_volume_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "comfy").mkdir()
    assert "is a network volume attached" in connect(tmp_path / "none", tmp_path / "comfy").problems[0]
    (tmp_path / "empty").mkdir()
    assert "is not there" in connect(tmp_path / "empty", tmp_path / "comfy").problems[0]


def test_settings() -> None:
    plain = Settings.from_env({})
    assert (plain.url, plain.command, plain.folder) == ("http://127.0.0.1:8188", (), None)
    said = Settings.from_env(
        {"COMFY_COMMAND": "python main.py --x 'a b'", "COMFYUI_DIR": "/comfyui", "RYLA_WORKER_MOST_ANSWER_MB": "1.5"}
    )
    assert said.command == ("python", "main.py", "--x", "a b")
    assert said.most_answer_bytes == 1_500_000
    assert said.models == Path("/comfyui/models")
    for bad in ("many", "-1", "nan"):
        with pytest.raises(ValueError, match="RYLA_WORKER_DEADLINE_S"):
            Settings.from_env({"RYLA_WORKER_DEADLINE_S": bad})
