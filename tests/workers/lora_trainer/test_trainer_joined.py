"""A training sent through Celery, done by the trainer as RunPod runs it: an unmodified SDK, joined to the simulator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trainer_bench import Bench, alive

from ryla_tasks import Job, run_endpoint, train_lora
from ryla_tasks.errors import JobFailed
from ryla_tasks.simulator import EndpointConfig
from tests.support.file_server import FileServer
from tests.support.fleet import Fleet, eventually
from tests.support.tls import certify

ROOT = Path(__file__).parents[3]


class Gpu:
    """Trainers at the endpoint `lora`."""

    def __init__(self, fleet: Fleet, bench: Bench, folder: Path) -> None:
        self.fleet, self.bench, self.folder = fleet, bench, folder
        self.processes: list[subprocess.Popen[bytes]] = []
        fleet.endpoint("lora").remove()
        self.control = fleet.simulator.add_endpoint(
            EndpointConfig(endpoint_id="lora", joined=True, cold_start_s=0.5, ping_interval_s=1, lease_s=2.5)
        )

    def start(self, worker_id: str, **env: str) -> subprocess.Popen[bytes]:
        settings = self.bench.settings
        own = {
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "RYLA_TRAINER_TOOLKIT": str(settings.toolkit),
            "RYLA_VOLUME": str(settings.volume),
            "RYLA_TRAINER_WORK": str(settings.work),
            "RYLA_TRAINER_POLL_S": "0.1",
            "AITK_STORY_FILE": str(self.folder / "story"),
            "AITK_PID_FILE": str(self.folder / f"{worker_id}.pid"),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.lora_trainer"],
            env={**os.environ, **self.fleet.simulator.worker_env("lora", worker_id), **own, **env},
            cwd=ROOT, stdout=(self.folder / f"{worker_id}.log").open("wb"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def trainer(self, worker_id: str) -> int:
        file = self.folder / f"{worker_id}.pid"
        return int(eventually(lambda: file.exists() and file.read_text(), what="a trainer"))

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """As RunPod loses a worker: all of it at once, but for the trainer, which is in a session of its own."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.kill(process)


@pytest.fixture
def gpu(served: Fleet, bench: Bench, tmp_path: Path) -> Iterator[Gpu]:
    gpu = Gpu(served, bench, tmp_path)
    yield gpu
    gpu.close()


def asked(bench: Bench, **changes: Any) -> dict[str, Any]:
    request = bench.request(**changes)
    del request["ryla"]
    return request


def test_a_training_through_celery(gpu: Gpu, bench: Bench, tmp_path: Path) -> None:
    certificate = certify(tmp_path / "tls")
    bench.files = FileServer(certificate)
    images = [image["url"] for image in bench.images()]
    gpu.start("gpu-1", AITK_STEP_S="0.05", SSL_CERT_FILE=str(certificate.authority))
    result = train_lora.delay(
        trigger_word="ohwx",
        images=images,
        steps=60,
        resolution=512,
        sample_prompts=["[trigger] at the sea"],
        name="Ada",
    )
    job = Job.get(result.id)
    told = eventually(
        lambda: job.progress if job.progress.message.startswith("Training: step ") else None, what="progress"
    )
    assert 5 < told.percent < 97
    got = result.get(timeout=30)
    bench.files.close()
    assert got["data"]["steps"] == 60
    assert got["data"]["name"] == "Ada"
    lora = Path(got["data"]["lora"]["data"])
    assert lora.is_file()
    assert lora.parent.name == "loras"
    assert lora.stem == Job.get(result.id).record.correlation_id


def test_want_of_memory_reaches_the_caller(gpu: Gpu, bench: Bench) -> None:
    gpu.start("gpu-1", AITK_MODE="oom")
    result = run_endpoint.delay("lora", asked(bench, resolution=[512, 1024]))
    with pytest.raises(JobFailed, match="more GPU memory") as raised:
        result.get(timeout=30)
    assert raised.value.info["code"] == "training_memory"
    assert "Try resolution [512] instead of [512, 1024]" in raised.value.info["details"]["error"]
    assert '"change"' in str(raised.value.info["details"]["output"])
    assert Job.get(result.id).record.attempt == 1


def test_a_cancel_reaches_the_trainer(gpu: Gpu, bench: Bench) -> None:
    gpu.start("gpu-1")
    result = run_endpoint.delay("lora", asked(bench, steps=20_000))
    job = Job.get(result.id)
    trainer = gpu.trainer("gpu-1")
    eventually(lambda: job.progress.message.startswith("Training: step "), what="a training under way")
    job.cancel()
    eventually(lambda: not alive(trainer), timeout=10, what="the trainer has stopped")
    eventually(lambda: job.status == "cancelled", timeout=10, what="the job is cancelled")
    assert (gpu.folder / "story").read_text().splitlines()[-1] == "interrupted"


def test_a_lost_worker_costs_the_steps_since_its_last_checkpoint(gpu: Gpu, bench: Bench) -> None:
    first = gpu.start("gpu-1", AITK_STEP_S="0.03")
    result = run_endpoint.delay("lora", asked(bench, steps=150))
    assert bench.settings.volume is not None
    kept = bench.settings.volume / "lora_trainer" / result.id
    eventually(lambda: list(kept.glob("step_*")), what="a checkpoint on the volume")
    trainer = gpu.trainer("gpu-1")
    gpu.kill(first)
    eventually(lambda: not alive(trainer), timeout=5, what="no trainer without its worker")
    gpu.start("gpu-2")
    got = result.get(timeout=40)
    assert got["data"]["steps"] == 150
    assert got["attempts"] == 1
    began = [int(line.split()[1]) for line in (gpu.folder / "story").read_text().splitlines()]
    assert began[0] == 0
    assert began[1] in (20, 40, 60, 80, 100, 120, 140)
    assert len(began) == 2
