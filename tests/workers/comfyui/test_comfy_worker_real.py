"""The real handler against a running ComfyUI. Opt-in: `COMFY_URL=http://127.0.0.1:8188 pytest tests/workers/comfyui`.

No model is needed. `COMFYUI_DIR` names its folder, if it is on this machine. Tests that need the node of
`tests/support/comfyui/custom_nodes` say so where it is not installed there.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_bench import Bench, bench, run, under_way, until, workflow
from PIL import Image

from tests.support.comfyui.validation import validate

URL = os.environ.get("COMFY_URL", "").rstrip("/")
FOLDER = os.environ.get("COMFYUI_DIR", "")

pytestmark = [
    pytest.mark.skipif(not URL, reason="opt-in: COMFY_URL names no running ComfyUI"),
    pytest.mark.timeout(300),
]


def ask(path: str) -> Any:
    with urllib.request.urlopen(f"{URL}{path}", timeout=30) as answer:
        return json.load(answer)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Bench]:
    with bench(Path(FOLDER) if FOLDER else tmp_path, URL, volume=tmp_path / "volume") as made:
        yield made


@pytest.fixture
def slow(real: Bench) -> Bench:
    if not ask("/object_info/SlowSteps"):
        pytest.skip("the node SlowSteps of tests/support/comfyui/custom_nodes is not installed there")
    return real


def plain(**changes: Any) -> dict[str, Any]:
    nodes = workflow(**changes)
    del nodes["3"]
    nodes["4"]["inputs"]["images"] = ["2", 0]
    return nodes


def size_of(answer: dict[str, Any]) -> tuple[int, int]:
    (image,) = answer["images"]
    return Image.open(io.BytesIO(base64.b64decode(image["data"]))).size


def test_an_image_is_made_and_made_again(real: Bench) -> None:
    for job_id in ("real-1", "real-2"):
        answer = run(real.do({"workflow": plain()}, job_id))
        assert size_of(answer) == (256, 192), answer
    assert not FOLDER or not [name for name in real.left() if "ryla-real" in name]


def test_an_image_of_the_input(real: Bench) -> None:
    out = io.BytesIO()
    Image.new("RGB", (70, 50), "red").save(out, "PNG")
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "my face.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    images = [{"name": "my face.png", "image": base64.b64encode(out.getvalue()).decode()}]
    assert size_of(run(real.do({"workflow": nodes, "images": images}))) == (70, 50)


def test_refusals_are_json_and_the_stand_in_refuses_in_the_same_way(real: Bench) -> None:
    bad = plain(_2={"upscale_method": "no-such", "width": 99_999})
    answer = run(real.do({"workflow": bad}))
    assert answer["code"] == "invalid_workflow"
    told = {(node["input"], node["type"]) for node in answer["details"]["nodes"]}
    assert told == {("upscale_method", "value_not_in_list"), ("width", "value_bigger_than_max")}
    ours = validate(bad, ask("/object_info"))
    assert {(error["extra_info"]["input_name"], error["type"]) for error in ours["2"]["errors"]} == told

    unknown = plain() | {"9": {"class_type": "NoSuchNode", "inputs": {}}}
    assert run(real.do({"workflow": unknown}))["code"] == "missing_node"
    assert run(real.do({"workflow": unknown, "check": True}))["missing_nodes"] == ["NoSuchNode"]
    assert run(real.do({"workflow": plain(), "check": True}))["ok"] is True
    nothing = plain()
    del nothing["4"]
    assert run(real.do({"workflow": nothing}))["code"] == "workflow_incomplete"
    partly = plain() | {
        "5": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "y"}},
        "6": {"class_type": "LoadImage", "inputs": {"image": "absent.png"}},
    }
    assert run(real.do({"workflow": partly}))["code"] == "missing_image"
    assert size_of(run(real.do({"workflow": partly, "outputs": ["4"]}))) == (256, 192)
    model = plain() | {
        "7": {"class_type": "UNETLoader", "inputs": {"unet_name": "gone.safetensors", "weight_dtype": "default"}},
    }
    assert run(real.do({"workflow": model}))["code"] == "missing_model"


def test_text_and_previews(real: Bench) -> None:
    nodes = plain() | {
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["7", 0]}},
        "7": {"class_type": "StringConcatenate", "inputs": {"string_a": "a", "string_b": "b", "delimiter": "-"}},
    }
    answer = run(real.do({"workflow": nodes}))
    assert len(answer["images"]) == 1
    (text,) = answer["files"]
    assert (text["kind"], base64.b64decode(text["data"])) == ("text", b"a-b")


def test_progress_and_a_node_that_raises(slow: Bench) -> None:
    stamp = int(time.time())
    answer = run(slow.do({"workflow": workflow(_3={"steps": 20, "delay": 0.1, "seed": stamp})}))
    assert size_of(answer) == (256, 192)
    percents = [update["percent"] for update in slow.sent]
    assert percents == sorted(percents)
    assert len({percent for percent in percents if 10 < percent < 90}) > 5
    failed = run(slow.do({"workflow": workflow(_3={"fail_at": 3, "seed": stamp})}))
    assert (failed["code"], failed["details"]["nodes"][0]["class"]) == ("node_failed", "SlowSteps")


def test_a_cancel_and_a_deadline_reach_comfyui(slow: Bench, tmp_path: Path) -> None:
    stamp = int(time.time())
    long = {"steps": 500, "delay": 0.1}

    async def cancel() -> float:
        async with under_way(slow, {"workflow": workflow(_3={**long, "seed": stamp})}, URL) as task:
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            took = time.monotonic() - began
            await until(lambda: slow.worker.concurrency() == 1)
            return took

    assert run(cancel()) < 2
    assert ask("/queue") == {"queue_running": [], "queue_pending": []}
    with bench(tmp_path, URL, deadline_s=2.0) as hasty:
        answer = run(hasty.do({"workflow": workflow(_3={**long, "seed": stamp + 1})}))
        assert answer["code"] == "deadline"
        run(until(lambda: ask("/queue")["queue_running"] == []))
    assert size_of(run(slow.do({"workflow": plain()}))) == (256, 192)
