"""The stand-in plays ComfyUI's messages in the recorded order, and answers as it did."""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.comfyui.process import ComfyProcess

DATA = Path(__file__).parents[2] / "data/comfyui"
#: What differs from run to run.
_VOLATILE = ("prompt_id", "timestamp", "sid", "traceback", "current_inputs", "current_outputs")


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyProcess]:
    process = ComfyProcess(tmp_path_factory.mktemp("comfy"))
    yield process
    process.kill()


def recording(name: str) -> tuple[Any, list[Any], Any]:
    """Of a transcript the answer to POST /prompt, the messages, and the entry of /history."""
    lines = json.loads((DATA / f"{name}.json").read_text())
    (entry,) = lines[-1]["body"].values()
    return lines[0], [line["ws"] for line in lines if "ws" in line], entry


def plain(value: Any) -> Any:
    """Without what differs from run to run; 1.0 and 1 are the same in JSON."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items() if name not in _VOLATILE}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


async def play(url: str, prompt: Any, interrupt_at: int | None = None) -> tuple[Any, list[Any], Any]:
    client_id, prompt_id, messages = uuid.uuid4().hex, str(uuid.uuid4()), []
    async with aiohttp.ClientSession(url) as session, session.ws_connect(f"/ws?clientId={client_id}") as socket:
        messages.append(await socket.receive_json())
        body = {"prompt": prompt, "client_id": client_id, "prompt_id": prompt_id}
        async with session.post("/prompt", json=body) as response:
            answer = {"status": response.status, "body": await response.json()}
        while (messages[-1]["type"], messages[-1]["data"].get("node", 0)) != ("executing", None):
            messages.append(await asyncio.wait_for(socket.receive_json(), 10))
            if interrupt_at is not None and messages[-1]["data"].get("value") == interrupt_at:
                await session.post("/interrupt", json={"prompt_id": prompt_id})
                interrupt_at = None
        async with session.get(f"/history/{prompt_id}") as response:
            (entry,) = (await response.json()).values()
    return answer, messages, entry


def test_the_messages_come_in_the_recorded_order(comfy: ComfyProcess) -> None:
    """The transcripts were made one after the other: what the first run made is cached for the others."""
    for name in ("success", "cached", "execution_error", "interrupted", "partly_invalid"):
        recorded_answer, recorded_messages, recorded_entry = recording(name)
        prompt = copy.deepcopy(recorded_entry["prompt"][2])
        for node in prompt.values():
            if "delay" in node["inputs"]:
                node["inputs"]["delay"] = 0.02
        answer, messages, entry = asyncio.run(play(comfy.url, prompt, 4 if name == "interrupted" else None))
        assert plain(answer) == plain({key: recorded_answer[key] for key in ("status", "body")}) | {
            "body": plain(recorded_answer["body"]) | {"number": plain(answer["body"]["number"])}
        }, name
        assert plain(messages) == plain(recorded_messages), name
        for part in ("outputs", "status", "meta"):
            assert plain(entry[part]) == plain(recorded_entry[part]), (name, part)


def test_another_client_sees_only_the_queue(comfy: ComfyProcess) -> None:
    prompt = recording("success")[2]["prompt"][2]
    prompt["3"]["inputs"].update(delay=0.01, seed=77)

    async def go() -> set[str]:
        kinds = set()
        async with aiohttp.ClientSession(comfy.url) as session, session.ws_connect("/ws?clientId=other") as socket:
            await play(comfy.url, prompt)
            while True:
                try:
                    kinds.add((await asyncio.wait_for(socket.receive_json(), 0.2))["type"])
                except TimeoutError:
                    return kinds

    assert asyncio.run(go()) == {"status"}


@pytest.mark.parametrize("name", ["validation_failed", "unknown_node", "no_outputs"])
def test_refusals(comfy: ComfyProcess, name: str) -> None:
    recorded = json.loads((DATA / f"{name}.json").read_text())[0]
    prompt = recording("success")[2]["prompt"][2]
    if name == "validation_failed":
        prompt["2"]["inputs"]["upscale_method"] = "no-such"
    elif name == "unknown_node":
        prompt["3"]["class_type"] = "NoSuchNode"
    else:
        del prompt["4"]

    async def go() -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(comfy.url) as session,
            session.post("/prompt", json={"prompt": prompt}) as response,
        ):
            return response.status, await response.json()

    assert asyncio.run(go()) == (recorded["status"], recorded["body"])
