"""The simulator as a process of its own, and without its extra."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from ryla_tasks.cli.simulate import simulate
from ryla_tasks.simulator import Answer, SimulatorClient

COMMAND = [sys.executable, "-c", "from ryla_tasks.cli.simulate import simulate; simulate()"]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [*COMMAND, "--port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_starts_says_where_it_is_and_stops_cleanly(number: signal.Signals) -> None:
    options = ["--endpoint", "image=image", "--endpoint", "lora=echo", "--key", "secret-key", "--time-scale", "50"]
    with running(*options) as (process, ready):
        assert ready["endpoints"] == {"image": "image", "lora": "echo"}
        assert ready["base_url"] == ready["url"] + "/v2"
        key = {"Authorization": "Bearer secret-key"}
        job = requests.post(f"{ready['base_url']}/lora/run", json={"input": {"a": 1}}, headers=key, timeout=5).json()
        client = SimulatorClient(ready["url"])
        assert client.endpoint("lora").job(job["id"]).input == {"a": 1}
        client.endpoint("lora").add_fault(Answer(status=503))
        assert requests.get(f"{ready['base_url']}/lora/health", headers=key, timeout=5).status_code == 503
        process.send_signal(number)
        out, errors = process.communicate(timeout=10)
        assert (process.returncode, out, errors) == (0, "", "")


def test_says_how_a_worker_joins() -> None:
    with running("--endpoint", "comfy=joined") as (_, ready):
        assert ready["endpoints"] == {"comfy": "joined"}
        client = SimulatorClient(ready["url"])
        assert client.endpoint("comfy").view().config.joined
        assert ready["join"] == {"comfy": client.worker_env("comfy", "gpu-1")}


def test_options_come_on_top_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "simulator.json"
    endpoint = {"endpoint_id": "big", "program": "echo", "workers_min": 2, "faults": [{"kind": "delay", "seconds": 1}]}
    file.write_text(json.dumps({"endpoints": [endpoint], "time_scale": 5, "seed": 3}))
    with running("--config", str(file), "--time-scale", "7", "--endpoint", "more=image") as (_, ready):
        client = SimulatorClient(ready["url"])
        assert client.about()["time_scale"] == 7
        assert ready["endpoints"] == {"big": "echo", "more": "image"}
        assert client.endpoint("big").view().config.workers_min == 2
        assert len(client.endpoint("big").faults()) == 1


@pytest.mark.parametrize(
    ("content", "options", "names"),
    [
        ("{", [], "is not JSON"),
        ("[]", [], "is not a JSON object"),
        ('{"nonsense": 1}', [], "nonsense"),
        ('{"endpoints": [{"endpoint_id": "a b"}]}', [], "endpoints.0.endpoint_id"),
        ('{"endpoints": [{"endpoint_id": "a", "workers_min": 5}]}', [], "workers_min"),
        ("{}", ["--time-scale", "0"], "time_scale"),
        ("{}", ["--endpoint", "a=video"], "no program 'video'"),
        ("{}", ["--endpoint", "a", "--endpoint", "a"], "given twice"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(tmp_path: Path, content: str, options: list[str], names: str) -> None:
    file = tmp_path / "simulator.json"
    file.write_text(content)
    result = CliRunner().invoke(simulate, ["--config", str(file), "--port", "0", *options])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert names in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("missing", ["aiohttp", "PIL"])
def test_without_the_extra_the_error_names_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from click.testing import CliRunner\n"
        "from ryla_tasks.cli.simulate import simulate\n"
        "result = CliRunner().invoke(simulate, []); print(result.exit_code, result.output)\n"
        "import ryla_tasks.simulator"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("1 Error: ")
    for text in (done.stdout, done.stderr.splitlines()[-1]):
        assert f"needs {missing}" in text
        assert "pip install 'ryla-tasks[simulator]'" in text
