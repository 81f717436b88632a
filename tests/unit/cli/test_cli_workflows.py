"""`ryla workflows`, in this process: nothing of it but `check --endpoint` needs Redis."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ryla_tasks.cli import cli
from ryla_tasks.cli.exits import Exit
from ryla_tasks.settings import reset_settings
from ryla_tasks.simulator.programs.painter import paint
from ryla_tasks.simulator.programs.workflow import Picture
from ryla_tasks.workflows import get_template, list_templates

RECORDED = Path(__file__).parents[2] / "data" / "comfyui" / "object_info.json"


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("RYLA_TEMPLATES_DIR", str(folder))
    reset_settings()
    yield folder
    reset_settings()


def ryla(*arguments: str, code: Exit = Exit.OK) -> Result:
    result = CliRunner().invoke(cli, ["workflows", *arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def as_json(*arguments: str, code: Exit = Exit.OK) -> Any:
    return json.loads(ryla(*arguments, "--json", code=code).stdout)


def test_list_and_show() -> None:
    assert [one["name"] for one in as_json("list")] == [manifest.name for manifest in list_templates()]
    assert "face-swap-reactor" in ryla("list").output
    shown = as_json("show", "flux-pulid")
    assert {one["name"] for one in shown["parameters"]} >= {"prompt", "face", "lora", "seed"}
    text = ryla("show", "flux-pulid").output
    assert all(
        word in text for word in ("face_strength", "0.8", "ApplyPulidFlux", "pulid/pulid_flux_v0.9.1.safetensors")
    )
    assert "Falls back to: z-image-turbo" in ryla("show", "flux-dev").output
    assert "did you mean 'flux-dev'" in ryla("show", "fluxdev", code=Exit.USAGE).stderr


def test_render_prints_what_comfyui_takes(tmp_path: Path) -> None:
    rendered = json.loads(ryla("render", "sdxl", "-p", "a hut", "--param", "steps=4", "--param", "seed=7").stdout)
    assert rendered == get_template("sdxl").render(prompt="a hut", steps=4, seed=7).workflow
    face = tmp_path / "me.png"
    face.write_bytes(paint(Picture("a face", "", 1, 16, 16, 1, 0, "face.png", "3")))
    told = as_json("render", "flux-pulid", "-p", "x", "--image", f"face={face}", "--param", "lora=me.safetensors")
    (name,) = told["images"]
    assert told["workflow"]["8"]["inputs"]["image"] == name
    assert "me.safetensors" in told["models"]
    assert told["params"]["face"]["image"].startswith("<")
    assert told["expected_images"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sdxl"], "prompt is required"),
        (["sdxl", "-p", "x", "--param", "steps=0"], "steps: 0 is not a whole number"),
        (["sdxl", "-p", "x", "--param", "steps"], "NAME=VALUE"),
        (["flux-pulid", "-p", "x", "--image", "face=nowhere.png"], "nowhere.png: No such file"),
        (["flux-pulid", "-p", "x", "--image", f"face={__file__}"], "no PNG, JPEG, WebP or GIF"),
        (["nope"], "there is no template"),
    ],
)
def test_what_cannot_be_rendered_is_said_in_a_line(arguments: list[str], says: str) -> None:
    assert says in ryla("render", *arguments, code=Exit.USAGE).stderr


def test_check_by_itself(tmp_path: Path) -> None:
    assert as_json("check", "inpaint") == {"checked": "inpaint", "against": None, "ok": True}
    file = tmp_path / "w.json"
    file.write_text(json.dumps(get_template("sdxl").workflow))
    assert "well formed" in ryla("check", str(file)).output
    file.write_text(json.dumps({"nodes": [], "links": []}))
    assert "Export (API)" in ryla("check", str(file), code=Exit.USAGE).stderr
    file.write_text("{")
    assert "is not JSON" in ryla("check", str(file), code=Exit.USAGE).stderr
    assert "No such file" in ryla("check", "nowhere.json", code=Exit.USAGE).stderr


def test_check_finds_a_template_of_ones_own_that_is_wrong(own: Path) -> None:
    (own / "mine").mkdir()
    (own / "mine" / "manifest.json").write_text("{}")
    assert "mine/manifest.json: format" in ryla("check", "mine", code=Exit.CONFIGURATION).stderr


def test_check_against_a_recorded_comfyui(tmp_path: Path) -> None:
    assert as_json("check", "face-swap-reactor", "--object-info", str(RECORDED))["ok"]
    found = as_json("check", "sdxl", "--object-info", str(RECORDED), code=Exit.FAILED)
    assert [model["file"] for model in found["missing_models"]] == ["sd_xl_base_1.0.safetensors"]
    nodes = json.loads(RECORDED.read_text())
    del nodes["FluxGuidance"]
    fewer = tmp_path / "fewer.json"
    fewer.write_text(json.dumps(nodes))
    text = ryla("check", "flux-dev", "--object-info", str(fewer), code=Exit.FAILED).output
    assert "missing node: FluxGuidance" in text
    assert "missing model: flux1-dev.safetensors (node 1, UNETLoader)" in text
    fewer.write_text("[]")
    assert "GET /object_info" in ryla("check", "sdxl", "--object-info", str(fewer), code=Exit.USAGE).stderr
    fewer.write_text("{}")
    assert "GET /object_info" in ryla("check", "sdxl", "--object-info", str(fewer), code=Exit.USAGE).stderr


def test_check_against_a_running_comfyui() -> None:
    class Comfy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/object_info"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(RECORDED.read_bytes() if found else b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Comfy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        assert as_json("check", "face-swap-reactor", "--comfy", url) == {
            "checked": "face-swap-reactor",
            "against": url,
            "ok": True,
            "missing_nodes": [],
            "missing_models": [],
            "problems": [],
            "warnings": [],
        }
    finally:
        server.shutdown()
        server.server_close()
    assert "No ComfyUI answers" in ryla("check", "sdxl", "--comfy", url, code=Exit.UNREACHABLE).stderr


def test_only_one_to_check_against() -> None:
    wrong = ["check", "sdxl", "--comfy", "http://x", "--endpoint", "image"]
    assert "give one of" in ryla(*wrong, code=Exit.USAGE).stderr


def test_import_makes_a_template_that_can_be_used(own: Path, tmp_path: Path) -> None:
    file = tmp_path / "exported.json"
    file.write_text(json.dumps(get_template("flux-pulid").workflow))
    text = ryla("import", str(file), "--name", "my-flux").output
    assert "Made" in text
    assert "guessed" in text
    assert "my-flux" in [one["name"] for one in as_json("list")]
    assert as_json("render", "my-flux", "-p", "x", "--param", "image=a.png")["workflow"]["4"]["inputs"]["text"] == "x"
    assert "there already" in ryla("import", str(file), "--name", "my-flux", code=Exit.USAGE).stderr
    other = as_json("import", str(file), "--name", "other", "--folder", str(tmp_path / "deep" / "er"))
    assert other["folder"] == str(tmp_path / "deep" / "er" / "other")
    assert other["manifest"]["name"] == "other"


def test_import_refuses_what_the_editor_saves_and_bad_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "saved.json"
    file.write_text(json.dumps({"last_node_id": 3, "nodes": [{"id": 1, "type": "KSampler"}], "links": []}))
    said = ryla("import", str(file), "--name", "mine", code=Exit.USAGE).stderr
    assert "Workflow > Export (API)" in said
    assert "Save (API Format)" in said
    file.write_text(json.dumps(get_template("sdxl").workflow))
    assert "small letters" in ryla("import", str(file), "--name", "../Mine", code=Exit.USAGE).stderr
    monkeypatch.delenv("RYLA_TEMPLATES_DIR")
    reset_settings()
    assert "RYLA_TEMPLATES_DIR" in ryla("import", str(file), "--name", "mine", code=Exit.CONFIGURATION).stderr
