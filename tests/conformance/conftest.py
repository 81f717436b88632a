from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.target import Endpoint, Target, live_target, simulated_target


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """RunPod where RUNPOD_API_KEY and RYLA_CONFORMANCE_ENDPOINT are set, else a simulator."""
    live = live_target()
    if live is not None:
        yield live
        return
    with simulated_target(tmp_path_factory.mktemp("conformance")) as simulated:
        yield simulated


@pytest.fixture
def echo(target: Target) -> Endpoint:
    return target.echo


@pytest.fixture
def stream(target: Target) -> Endpoint:
    if target.stream is None:
        pytest.skip("RYLA_CONFORMANCE_STREAM_ENDPOINT is not set")
    return target.stream


@pytest.fixture(scope="session")
def slow_jobs(target: Target) -> dict[str, str]:
    """Jobs whose ends take their time, submitted at the start of the suite."""
    jobs = {"times out": target.echo.run({"seconds": 600}, policy={"executionTimeout": 5000})}
    if target.stream is not None:
        jobs["empty"] = target.stream.run({})
    return jobs


@pytest.fixture(autouse=True)
def _early(slow_jobs: dict[str, str]) -> None:
    """They are on their way before the first test."""
