"""A bench with a volume for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trainer_bench import TOOLKIT, Bench

from tests.support.file_server import FileServer
from workers.lora_trainer.settings import Settings


@pytest.fixture
def files() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def bench(tmp_path: Path, files: FileServer, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("RYLA_WORKER_ALLOW_PRIVATE", "1")
    for name in ("AITK_MODE", "AITK_AT", "AITK_SAVE_S", "AITK_LOAD_S"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AITK_STEP_S", "0.005")
    volume = tmp_path / "volume"
    volume.mkdir()
    settings = Settings(
        toolkit=TOOLKIT, volume=volume, work=tmp_path / "work", poll_s=0.05, progress_s=0.05, stop_s=1.0
    )
    return Bench(settings, files)
