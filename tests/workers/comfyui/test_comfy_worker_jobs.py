"""Jobs of the ComfyUI worker: what goes in, what comes out."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from comfy_bench import Bench, bench, run, until, workflow
from moto.server import ThreadedMotoServer
from PIL import Image

from tests.support.comfyui.process import ComfyProcess
from tests.support.comfyui.red_faces import count_red
from workers.common.addresses import ALLOW
from workers.common.storing import Store


def picture(color: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def opened(entry: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(entry["data"])))


LOADED = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "mine"}},
}


def test_a_workflow_becomes_an_image_with_progress_on_the_way(made: Bench) -> None:
    answer = run(made.do({"workflow": workflow(_3={"steps": 20})}))
    (image,) = answer["images"]
    assert (image["filename"], image["type"]) == ("job_a_00001_.png", "base64")
    assert opened(image).size == (256, 192)
    assert set(answer) == {"images"}
    percents = [update["percent"] for update in made.sent]
    assert percents == sorted(percents)
    assert any(10 < percent < 90 for percent in percents)
    assert max(percents) < 100, "a hundred per cent is the result's to say"
    stepping = next(update for update in made.sent if update.get("step", 0) > 4)
    assert stepping["steps"] == 20
    assert stepping["node"] == "SlowSteps"
    assert stepping["message"] == f"SlowSteps: step {stepping['step']} of 20"
    assert stepping["eta_s"] > 0
    assert made.left() == []


def test_the_same_workflow_again_gives_its_own_file_and_not_the_one_before(made: Bench) -> None:
    first, second = (run(made.do({"workflow": workflow(_3={"seed": 9})}, job_id)) for job_id in ("r-1", "r-2"))
    assert first["images"] == second["images"], "pixels and names are the same; each was read from its own file"
    own = workflow(_4={"filename_prefix": "job-7-x"})
    run(made.do({"workflow": own, "ryla": {"job_id": "job-7"}}))
    assert [name for name in made.left() if name.startswith("output/job-7-x")], "a prefix of the job's own is left"


def test_images_of_the_input_as_base64_data_uri_and_url(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, "127.0.0.1/32")
    images: list[dict[str, Any]] = [
        {"name": "in.png", "image": b64(picture())},
        {"name": "in.png", "image": f"data:image/png;base64,{b64(picture())}"},
    ]

    async def served(_request: web.Request) -> web.Response:
        return web.Response(body=picture(), content_type="image/png")

    async def all_of_them() -> list[dict[str, Any]]:
        app = web.Application()
        app.router.add_get("/a.png", served)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/a.png"
        try:
            return [
                await made.do({"workflow": LOADED, "images": [image]})
                for image in (*images, {"name": "in.png", "url": url}, {"name": "in.png", "image": url})
            ]
        finally:
            await runner.cleanup()

    for answer in run(all_of_them()):
        assert opened(answer["images"][0]).size == (40, 30), answer
    assert not [name for name in made.left() if name.startswith("input")]


def test_two_jobs_with_an_image_of_one_name_do_not_get_each_others(made: Bench) -> None:
    for color in ("red", "blue"):
        answer = run(made.do({"workflow": LOADED, "images": [{"name": "in.png", "image": b64(picture(color))}]}))
        assert opened(answer["images"][0]).getpixel((5, 5)) == Image.new("RGB", (1, 1), color).getpixel((0, 0))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"workflow": None}, "invalid_input", "workflow is missing"),
        ({"workflow": {"nodes": [], "links": []}}, "invalid_input", "editor's format"),
        ({"workflow": {"1": "x"}}, "invalid_input", "node 1"),
        ({"images": "x"}, "invalid_input", "images is not a list"),
        ({"images": [{"name": "a.png"}]}, "invalid_input", "neither image nor url"),
        ({"images": [{"name": "a.png", "image": "***"}]}, "invalid_input", "not base64"),
        ({"images": [{"name": "a.png", "image": b64(b"no image")}]}, "input_image_invalid", "UnidentifiedImageError"),
        ({"images": [{"name": "a.png", "url": "https://127.0.0.1/a"}]}, "fetch_refused", "not public"),
        ({"images": [{"name": "a.png", "url": "http://example.com/a"}]}, "fetch_refused", "only https"),
        ({"outputs": ["99"]}, "invalid_input", "not in the workflow: 99"),
        ({"needs_face": ["b.png"]}, "invalid_input", "names no input image"),
        ({"files": [{"folder": "../x", "name": "a.safetensors", "url": "https://a/b"}]}, "invalid_input", "folder"),
        ({"files": [{"folder": "loras", "name": "../a.safetensors", "url": "https://a/b"}]}, "invalid_input", "plain"),
        ({"files": [{"folder": "loras", "name": "a.ckpt", "url": "https://a/b"}]}, "invalid_input", "run code"),
    ],
)
def test_an_input_that_makes_no_sense(made: Bench, changes: dict[str, Any], code: str, words: str) -> None:
    answer = run(made.do({"workflow": workflow(), **changes}))
    assert answer["code"] == code
    assert words in json.dumps(answer["details"])
    assert answer["error"].endswith(".")
    for text in ("not json", 5, None):
        assert run(made.do(text))["code"] == "invalid_input"


def test_what_comfyui_refuses_comes_back_as_json(made: Bench) -> None:
    refused = run(made.do({"workflow": workflow(_2={"upscale_method": "no-such"})}))
    assert refused["code"] == "invalid_workflow"
    (node,) = refused["details"]["nodes"]
    assert node == {
        "node": "2",
        "class": "ImageScale",
        "title": "ImageScale",
        "input": "upscale_method",
        "type": "value_not_in_list",
        "reason": "Value not in list: upscale_method: 'no-such' not in "
        "['nearest-exact', 'bilinear', 'area', 'bicubic', 'lanczos']",
        "value": "no-such",
    }
    nothing = workflow()
    del nothing["4"]
    assert run(made.do({"workflow": nothing}))["code"] == "workflow_incomplete"


def test_an_output_that_comfyui_drops_with_http_200_is_a_failure(made: Bench, comfy: ComfyProcess) -> None:
    partly = workflow(_3={"steps": 500}) | {
        "5": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "y"}},
        "6": {"class_type": "LoadImage", "inputs": {"image": "absent.png"}, "_meta": {"title": "The face"}},
    }
    answer = run(made.do({"workflow": partly}))
    assert answer["code"] == "missing_image"
    assert answer["details"]["nodes"][0]["title"] == "The face"
    assert comfy.seen()["interrupts"], "what is left of it is not run"
    partly["3"]["inputs"]["steps"] = 2
    assert run(made.do({"workflow": partly, "outputs": ["4"]}))["images"], "only what is wanted must be valid"


def test_a_node_that_raises(made: Bench) -> None:
    answer = run(made.do({"workflow": workflow(_3={"fail_at": 3})}))
    assert answer["code"] == "node_failed"
    assert answer["details"]["exception_type"] == "RuntimeError"
    assert answer["details"]["nodes"] == [
        {"node": "3", "class": "SlowSteps", "title": "SlowSteps", "reason": "CUDA out of memory (simulated)"}
    ]


def test_missing_nodes_and_models_are_found_before_anything_is_queued(tmp_path: Path) -> None:
    comfy = ComfyProcess(tmp_path, "--files", '["there.safetensors"]')
    nodes = workflow() | {
        "7": {"class_type": "UNETLoader", "inputs": {"unet_name": "gone.safetensors", "weight_dtype": "default"}},
        "8": {"class_type": "UNETLoader", "inputs": {"unet_name": "there.safetensors", "weight_dtype": "default"}},
    }
    try:
        with bench(comfy.base, comfy.url) as made:
            answer = run(made.do({"workflow": nodes}))
            assert (answer["code"], answer["details"]["nodes"][0]["value"]) == ("missing_model", "gone.safetensors")
            checked = run(made.do({"workflow": nodes, "check": True}))
            assert (checked["ok"], checked["missing_nodes"]) == (False, [])
            assert checked["missing_models"] == ["gone.safetensors"]

            nodes["9"] = {"class_type": "NoSuchNode", "inputs": {}}
            nodes["10"] = {"class_type": "NorThis", "inputs": {}}
            answer = run(made.do({"workflow": nodes}))
            assert answer["code"] == "missing_node"
            assert [node["class"] for node in answer["details"]["nodes"]] == ["NoSuchNode", "NorThis"]
            assert run(made.do({"workflow": nodes, "check": True}))["missing_nodes"] == ["NoSuchNode", "NorThis"]
            good = {"ok": True, "missing_nodes": [], "missing_models": [], "nodes": []}
            assert run(made.do({"workflow": workflow(), "check": True})) == good
            assert comfy.seen()["prompts"] == []
    finally:
        comfy.kill()


def test_every_kind_of_file_that_an_output_node_lists(made: Bench) -> None:
    nodes = workflow() | {
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
        "7": {"class_type": "CreateVideo", "inputs": {"images": ["3", 0], "fps": 8.0}},
        "8": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["7", 0], "filename_prefix": "v", "format": "auto", "codec": "auto"},
        },
    }
    answer = run(made.do({"workflow": nodes}))
    assert [image["filename"] for image in answer["images"]] == ["job_a_00001_.png"], "a preview is no result"
    files = {file["filename"]: file for file in answer["files"]}
    assert {name: file["kind"] for name, file in files.items()} == {"node_6_1.txt": "text", "v_00001_.mp4": "video"}
    assert base64.b64decode(files["node_6_1.txt"]["data"]) == b"from 6"

    chosen = run(made.do({"workflow": nodes, "outputs": ["5"]}))
    assert [image["filename"] for image in chosen["images"]] == ["ComfyUI_temp_5_00001_.png"], "unless it is asked for"
    assert "files" not in chosen


def test_too_large_for_an_answer_says_so_and_a_store_takes_it(comfy: ComfyProcess) -> None:
    with bench(comfy.base, comfy.url, most_answer_bytes=600) as made:
        answer = run(made.do({"workflow": workflow()}))
        assert answer["code"] == "output_too_large"
        assert "BUCKET_ENDPOINT_URL" in answer["details"]["reason"]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        store = Store(f"http://{host}:{port}", "outputs", "id", "secret")
        store._connected().create_bucket(Bucket="outputs")
        with bench(comfy.base, comfy.url, most_answer_bytes=600, store=store) as made:
            (image,) = run(made.do({"workflow": workflow()}, "r/1-u1"))["images"]
        assert image["type"] == "s3_url"
        assert "/outputs/r_1-u1/job_a_00001_.png?" in image["data"]
    finally:
        server.stop()


def test_model_files_are_fetched_once_and_kept(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, "127.0.0.1/32")
    asked: list[str] = []

    async def served(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"weights")

    async def go() -> list[dict[str, Any]]:
        app = web.Application()
        app.router.add_get("/{name}", served)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        file = {
            "folder": "loras",
            "name": "c-1.safetensors",
            "url": f"http://127.0.0.1:{runner.addresses[0][1]}/lora",
        }
        try:
            answers = [await made.do({"workflow": workflow(), "files": [file]}) for _ in range(2)]
            other = {**file, "name": "c-2.safetensors", "sha256": "0" * 64}
            return [*answers, await made.do({"workflow": workflow(), "files": [other]})]
        finally:
            await runner.cleanup()

    *good, bad = run(go())
    assert all(answer["images"] for answer in good)
    assert (bad["code"], asked) == ("fetch_refused", ["/lora", "/lora"])
    folder = made.worker.settings.models
    assert folder is not None
    assert [path.name for path in (folder / "loras").iterdir()] == ["c-1.safetensors"]


def test_the_webhook_is_told_that_the_job_was_taken(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOW, "1")
    told: list[Any] = []

    async def webhook(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response()

    async def go() -> dict[str, Any]:
        app = web.Application()
        app.router.add_post("/hook", webhook)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        try:
            answer = await made.do({"workflow": workflow(), "ryla": {"webhook": url}}, "r-77")
            await until(lambda: told)
            return answer
        finally:
            await runner.cleanup()

    assert run(go())["images"]
    assert told == [{"id": "r-77", "status": "IN_PROGRESS"}]


SWAP = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "target.png"}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "face.png"}},
    "3": {
        "class_type": "ReActorFaceSwap",
        "inputs": {
            "enabled": True,
            "input_image": ["1", 0],
            "source_image": ["2", 0],
            "swap_model": "inswapper_128.onnx",
            "facedetection": "retinaface_resnet50",
            "face_restore_model": "none",
            "face_restore_visibility": 1.0,
            "codeformer_weight": 0.5,
            "detect_gender_input": "no",
            "detect_gender_source": "no",
            "input_faces_index": "0",
            "source_faces_index": "0",
            "console_log_level": 1,
        },
    },
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "swapped"}},
}


def swap(target: str, face: str) -> dict[str, Any]:
    images = [
        {"name": "target.png", "image": b64(picture(target))},
        {"name": "face.png", "image": b64(picture(face, (20, 20)))},
    ]
    return {"workflow": SWAP, "images": images, "needs_face": ["target.png", "face.png"]}


def test_no_face_is_an_error(comfy: ComfyProcess, tmp_path: Path) -> None:
    with bench(comfy.base, comfy.url, detector=count_red) as made:
        assert run(made.do(swap("red", "red")))["images"]
        before = len(comfy.seen()["prompts"])
        answer = run(made.do(swap("red", "blue")))
        assert (answer["code"], answer["details"]["images"]) == ("no_face", ["face.png"])
        assert len(comfy.seen()["prompts"]) == before, "nothing is queued"
    with bench(comfy.base, comfy.url) as without_detector:
        assert "no face detector" in run(without_detector.do(swap("red", "red")))["warnings"][0]
    blind = ComfyProcess(tmp_path, "--no-faces")
    try:
        with bench(blind.base, blind.url, detector=count_red) as made:
            answer = run(made.do(swap("red", "red")))
            assert answer["code"] == "no_face"
            assert "unchanged" in answer["details"]["reason"]
    finally:
        blind.kill()
