"""Train, then generate with it: both real workers, joined to the simulator, on one volume and on two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from celery import chain
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import make_server

from ryla_tasks import Job, generate_image, train_lora
from ryla_tasks.errors import JobFailed
from tests.conftest import QUICK, fresh_settings
from tests.support.file_server import FileServer
from tests.support.fleet import Fleet, eventually
from tests.support.gpus import ComfyWorker, GpuWorker, join, trainer_env
from tests.support.pictures import picture_bytes
from tests.support.tls import Certificate, certify

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
#: What the template flux-dev loads besides a LoRA.
MODELS = ("diffusion_models/flux1-dev.safetensors", "vae/ae.safetensors",
          "text_encoders/clip_l.safetensors", "text_encoders/t5xxl_fp16.safetensors")  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def bucket(certificate: Certificate) -> Iterator[str]:
    """The address of a store that speaks S3, with a bucket for artifacts and one that GPU workers write to."""
    server = make_server(
        "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True,
        request_handler=MotoRequestHandler, ssl_context=certificate.for_servers(),
    )  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, **trusting(certificate)}.items():
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        for name in ("artifacts", "gpu"):
            client.create_bucket(Bucket=name)
    yield url
    server.shutdown()


def trusting(certificate: Certificate) -> dict[str, str]:
    """The environment of what believes this certificate: aiohttp and botocore in their own ways, and ours."""
    file = str(certificate.authority)
    return {"SSL_CERT_FILE": file, "AWS_CA_BUNDLE": file, "RYLA_DOWNLOAD_CA_BUNDLE": file}


@pytest.fixture(scope="module")
def images(certificate: Certificate) -> Iterator[list[str]]:
    with closing(FileServer(certificate)) as server:
        yield [server.add(f"/{number}.png", picture_bytes(number, 128)) for number in range(3)]


@pytest.fixture(scope="module")
def celery(whole_fleet: Fleet, bucket: str, certificate: Certificate) -> Iterator[Fleet]:
    """The fleet, its artifacts in S3, and one Celery worker."""
    whole_fleet.stop_workers()
    store = f"s3://artifacts?endpoint_url={quote(bucket)}&region=us-east-1"
    env = {**QUICK, **KEYS, **trusting(certificate), "RYLA_ARTIFACTS": store, "RYLA_DOWNLOAD_PRIVATE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        fresh_settings()
        whole_fleet.worker("--concurrency", "4", **env).wait_ready()
        yield whole_fleet
    whole_fleet.stop_workers()
    fresh_settings()


def volume(folder: Path) -> Path:
    """A network volume with the models of FLUX, which are empty here."""
    for name in MODELS:
        file = folder / "models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def trained_and_generated(images: list[str]) -> tuple[Job, Job]:
    training = train_lora.s(trigger_word="rylagirl", images=images, steps=60, resolution=512)
    image = generate_image.s(template="flux-dev", prompt="rylagirl on a beach", width=64, height=64, steps=2)
    last = chain(training, image).delay()
    assert last.parent is not None
    last.get(timeout=40)
    return Job.get(last.parent.id), Job.get(last.id)


def loras_of(prompts: list[dict[str, Any]]) -> list[str]:
    nodes = [node for prompt in prompts for node in prompt.values()]
    return [node["inputs"]["lora_name"] for node in nodes if "lora_name" in node["inputs"]]


def test_on_one_volume_the_lora_is_where_comfyui_looks(
    celery: Fleet, certificate: Certificate, images: list[str], tmp_path: Path
) -> None:
    celery.reset()
    join(celery, "image", "lora")
    shared = volume(tmp_path / "volume")
    with ExitStack() as stack:
        env = {**trainer_env(tmp_path, shared), **trusting(certificate)}
        env["RYLA_WORKER_ALLOW_PRIVATE"] = "1"
        stack.enter_context(closing(GpuWorker(celery, "lora", "workers.lora_trainer", tmp_path, "t-1", **env)))
        comfy = ComfyWorker(
            celery, "image", tmp_path, "c-1", options=("--read-paths",), RYLA_VOLUME=str(shared)
        )  # fmt: skip
        stack.enter_context(closing(comfy))
        training, image = trained_and_generated(images)
        name = f"{training.record.correlation_id}.safetensors"
        assert (shared / "models/loras" / name).stat().st_size > 100
        assert loras_of(comfy.seen()["prompts"]) == [name]
        assert image.result()["artifacts"][0]["content_type"] == "image/png"


def test_on_two_volumes_the_comfyui_worker_fetches_it(
    celery: Fleet, bucket: str, certificate: Certificate, images: list[str], tmp_path: Path
) -> None:
    celery.reset()
    join(celery, "image", "lora")
    here, there = volume(tmp_path / "images"), tmp_path / "training"
    there.mkdir()
    store = {"BUCKET_ENDPOINT_URL": bucket, "BUCKET_NAME": "gpu", "BUCKET_ACCESS_KEY_ID": "test",
             "BUCKET_SECRET_ACCESS_KEY": "test", "RYLA_WORKER_ALLOW_PRIVATE": "1"}  # fmt: skip
    with ExitStack() as stack:
        env = {**trainer_env(tmp_path, there), **store, **trusting(certificate)}
        stack.enter_context(closing(GpuWorker(celery, "lora", "workers.lora_trainer", tmp_path, "t-1", **env)))
        env = {**store, **trusting(certificate), "RYLA_VOLUME": str(here)}
        comfy = ComfyWorker(celery, "image", tmp_path, "c-1", options=("--read-paths",), **env)
        stack.enter_context(closing(comfy))
        training, image = trained_and_generated(images)
        name = f"{training.record.correlation_id}.safetensors"
        trained, fetched = (folder / "models/loras" / name for folder in (there, here))
        assert fetched.read_bytes() == trained.read_bytes()
        assert training.result()["artifacts"][0]["filename"] == name
        assert loras_of(comfy.seen()["prompts"]) == [name]
        assert image.result()["artifacts"][0]["content_type"] == "image/png"


def test_without_a_way_to_it_the_job_says_which_lora_is_missing(celery: Fleet, tmp_path: Path) -> None:
    celery.reset()
    join(celery, "image")
    here = volume(tmp_path / "images")
    comfy = ComfyWorker(celery, "image", tmp_path, "c-1", options=("--read-paths",), RYLA_VOLUME=str(here))
    with closing(comfy):
        result = generate_image.delay(template="flux-dev", prompt="x", lora="nobody.safetensors")
        with pytest.raises(JobFailed) as failed:
            result.get(timeout=20)
        assert failed.value.info["code"] == "missing_model"
        assert "nobody.safetensors" in str(failed.value.info)
        eventually(lambda: not comfy.seen()["prompts"], what="nothing was queued")
