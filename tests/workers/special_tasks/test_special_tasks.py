"""The lists of the special-tasks image, and its detectors."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.comfyui.validation import load_object_info
from workers.comfyui.faces import load_detector
from workers.comfyui.volume import FOLDERS, LINKED
from workers.common.failures import JobFailure
from workers.special_tasks import detector

ROOT = Path(__file__).parents[3] / "workers/special_tasks"
NODES: list[dict[str, str]] = json.loads((ROOT / "nodes.json").read_text())
MODELS: list[dict[str, Any]] = json.loads((ROOT / "models.json").read_text())


def test_every_pack_is_pinned_and_was_in_the_recording() -> None:
    recorded = {str(about["python_module"]).lower() for about in load_object_info().values()}
    for pack in NODES:
        assert pack["url"].startswith("https://github.com/")
        assert re.fullmatch(r"[0-9a-f]{7,40}", pack["commit"])
        assert pack["licence"]
        assert f"custom_nodes.{pack['name']}".lower() in recorded


def test_every_model_says_where_it_is_from_and_lands_in_a_folder_that_is_mapped() -> None:
    known = {folder for folders in FOLDERS.values() for folder in folders} | set(LINKED)
    for model in MODELS:
        assert model["source"].startswith("https://")
        assert model["licence"]
        assert model["folder"].partition("/")[0] in known, model
    assert all("non-commercial" in model["licence"] for model in MODELS if model["folder"].startswith("insightface"))


def test_packs_are_fetched_at_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a repository on this machine: fetching the real ones is the image's build, which is not run here."""
    source = tmp_path / "source"

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    source.mkdir()
    git("init", "-q")
    (source / "a.txt").write_text("first")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "--short", "HEAD")
    (source / "a.txt").write_text("second")
    git("commit", "-qam", "second")
    nodes = tmp_path / "nodes.json"
    nodes.write_text(json.dumps([{"name": "pack", "url": str(source), "commit": commit}]))
    monkeypatch.setattr(sys, "argv", ["install_nodes.py", str(nodes), str(tmp_path / "custom_nodes")])
    runpy.run_path(str(ROOT / "install_nodes.py"), run_name="__main__")
    assert (tmp_path / "custom_nodes/pack/a.txt").read_text() == "first"


def test_a_detector_is_named_by_module_and_function() -> None:
    assert load_detector("") is None
    assert load_detector("workers.special_tasks.detector:count_faces") is detector.count_faces
    for bad in (
        "workers.special_tasks.detector:nothing",
        "no_such_module:f",
        "x",
        "workers.special_tasks.detector:Path.x",
    ):
        with pytest.raises(ValueError, match="RYLA_FACE_DETECTOR"):
            load_detector(bad)


def test_without_its_models_the_detector_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_DIR", str(tmp_path))
    with pytest.raises(JobFailure) as failed:
        detector._insightface()
    assert failed.value.code == "missing_model"


def test_a_real_detector_finds_a_face_and_none_in_a_plain_picture(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="opt-in: needs opencv-python-headless, which has a detector")
    data = pytest.importorskip("skimage.data", reason="opt-in: needs scikit-image, which has a portrait")
    Image.fromarray(data.astronaut()).save(tmp_path / "face.png")
    Image.new("RGB", (512, 512), "gray").save(tmp_path / "plain.png")
    assert detector.count_faces_haar(tmp_path / "face.png") >= 1
    assert detector.count_faces_haar(tmp_path / "plain.png") == 0
    (tmp_path / "broken.png").write_bytes(b"x")
    assert detector.count_faces_haar(tmp_path / "broken.png") == 0
