"""A trained LoRA where artifacts are kept in S3: GPU workers get its URL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import boto3
import pytest
import requests
from celery import chord
from moto.server import ThreadedMotoServer

import ryla_tasks
from tests.conftest import QUICK, fresh_settings
from tests.support.fleet import Fleet
from workers.comfyui.inputs import read_request
from workers.comfyui.settings import Settings

IMAGES = [f"https://example.org/{number}.png" for number in range(3)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The setting of an artifact store that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "test")
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="artifacts")
    yield f"s3://artifacts?endpoint_url={quote(url)}&region=us-east-1"
    patch.undo()
    server.stop()


def test_a_lora_comes_with_its_url_where_the_artifact_store_makes_them(
    fleet: Fleet, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**QUICK, "RYLA_ARTIFACTS": bucket, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    fresh_settings()
    fleet.reset(run_s=0.2, queue_delay_s=0.0)
    fleet.endpoint("lora").update(program="lora")
    fleet.worker("--concurrency", "4", **env).wait_ready()
    training = ryla_tasks.train_lora.s(trigger_word="rylagirl", images=IMAGES, steps=20, base_model="sdxl")
    image = ryla_tasks.generate_image.s(template="sdxl", prompt="rylagirl", width=64, height=64)
    done = chord([training, image], image).delay().get(timeout=40)
    assert done["label"] == "sdxl"
    endpoint = fleet.endpoint("image")
    sent_all: list[dict[str, Any]] = [endpoint.job(one.id).input for one in endpoint.jobs()]
    (sent,) = [one for one in sent_all if "files" in one]
    names = [node["inputs"]["lora_name"] for node in sent["workflow"].values() if "lora_name" in node["inputs"]]
    (file,) = sent["files"]
    (taken,) = read_request(sent, Settings()).files
    assert (taken.folder, taken.name, taken.url, taken.sha256) == ("loras", file["name"], file["url"], file["sha256"])
    assert [file["name"]] == names
    assert file["folder"] == "loras"
    body = requests.get(file["url"], timeout=10).content
    assert len(body) > 100
    assert body[8:10] == b'{"'
    monkeypatch.undo()
    fresh_settings()
