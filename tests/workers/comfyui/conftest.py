"""A stand-in ComfyUI for all tests of a module, and a worker before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comfy_bench import Bench, bench

from tests.support.comfyui.process import ComfyProcess


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyProcess]:
    process = ComfyProcess(tmp_path_factory.mktemp("comfy"))
    yield process
    process.kill()


@pytest.fixture
def made(comfy: ComfyProcess) -> Iterator[Bench]:
    with bench(comfy.base, comfy.url) as ready:
        yield ready
