"""Faults as a client and a worker meet them on the wire."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from click.testing import CliRunner

from ryla_tasks.cli.simulate import simulate
from ryla_tasks.errors import RequestRejected
from ryla_tasks.simulator import (
    DEFAULT_KEY,
    LOST,
    Answer,
    CallWebhook,
    CutAnswer,
    DropOutput,
    EndpointConfig,
    FaultProgramme,
    LateProgress,
    LoseAnswer,
    Operation,
    Phase,
    Reset,
    RunningSimulator,
    Simulator,
    SimulatorConfig,
    TruncateOutput,
    WorkerOperation,
)
from tests.integration.test_simulator_process import running

LEASE_S = 0.8


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    echo = EndpointConfig(
        endpoint_id="echo", program="echo", workers_min=1, workers_max=1, cold_start_s=0, run_s=2, steps=2
    )
    joined = EndpointConfig(endpoint_id="joined", joined=True, output_limit_bytes=1000)
    hasty = EndpointConfig(endpoint_id="hasty", joined=True, lease_s=LEASE_S)
    with Simulator.running(SimulatorConfig(time_scale=20, endpoints=(echo, joined, hasty))) as running_one:
        yield running_one


class Caller:
    """A client of an endpoint, and a worker of it, as plain as can be."""

    def __init__(self, simulator: RunningSimulator, endpoint_id: str) -> None:
        self.simulator = simulator
        self.control = simulator.endpoint(endpoint_id)
        self._url = f"{simulator.base_url}/{endpoint_id}"

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {DEFAULT_KEY}"}
        return requests.request(
            method, f"{self._url}/{path}", headers=headers, json=body, params=query or None, timeout=20
        )

    def run(self, job_input: Any = None, **options: Any) -> str:
        return str(self.call("POST", "run", {"input": job_input or {"n": 1}, **options}).json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", f"status/{job_id}").json()
        return answer

    def when(self, job_id: str, status: str) -> dict[str, Any]:
        answer: dict[str, Any] = wait_for(lambda: one if (one := self.status(job_id))["status"] == status else None)
        return answer

    def take(self, worker_id: str = "w1") -> dict[str, Any] | None:
        answer = self.call("GET", f"job-take/{worker_id}", gpu="x", job_in_progress=0)
        return answer.json() if answer.status_code == 200 else None

    def done(self, job_id: str, body: Any, worker_id: str = "w1") -> int:
        return self.call("POST", f"job-done/{worker_id}/{job_id}", body, isStream="false").status_code

    def ping(self, *job_ids: str, worker_id: str = "w1", **query: Any) -> None:
        if job_ids:
            query["job_id"] = ",".join(job_ids)
        assert self.call("GET", f"ping/{worker_id}", **query).status_code == 200


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)
    return value


@pytest.fixture
def echo(simulator: RunningSimulator) -> Caller:
    simulator.reset()
    return Caller(simulator, "echo")


@pytest.fixture
def joined(simulator: RunningSimulator) -> Caller:
    simulator.reset()
    return Caller(simulator, "joined")


def test_a_connection_is_reset_and_an_answer_is_cut_off(echo: Caller) -> None:
    echo.control.add_fault(Reset(op=Operation.RUN))
    with pytest.raises(requests.ConnectionError) as caught:
        echo.run()
    assert "reset by peer" in str(caught.value)
    echo.control.add_fault(CutAnswer(op=Operation.RUN))
    url = urlsplit(echo.simulator.base_url)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=10)
    headers = {"Authorization": f"Bearer {DEFAULT_KEY}"}
    connection.request("POST", f"{url.path}/echo/run", '{"input": {"n": 2}}', headers)
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead) as incomplete:
        answer.read()
    assert incomplete.value.partial.startswith(b'{"id":')
    counters = echo.control.counters()
    assert (counters.accepted, counters.calls["run"]) == (2, {LOST: 2})
    assert counters.faults == {"reset": 1, "cut_answer": 1}


def test_outputs_are_truncated_and_lost(echo: Caller) -> None:
    echo.control.add_fault(TruncateOutput())
    assert len(echo.when(echo.run({"data": "x" * 100}), "COMPLETED")["output"]["data"]) == 50
    echo.control.add_fault(DropOutput())
    assert "output" not in echo.when(echo.run(), "COMPLETED")
    assert echo.when(echo.run(), "COMPLETED")["output"] == {"n": 1}


def test_a_webhook_comes_late_and_twice(echo: Caller) -> None:
    calls: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(echo.simulator.now())
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        echo.control.add_fault(CallWebhook(after_s=6, apart_s=4))
        job_id = echo.run(webhook=f"http://127.0.0.1:{server.server_address[1]}/")
        wait_for(lambda: len(calls) == 2)
        server.shutdown()
    ended = echo.control.job(job_id).ended_at
    assert ended is not None
    assert calls[0] - ended > 5.9
    assert calls[1] - calls[0] > 3


def test_a_programme_strikes_in_its_phase_and_no_later(echo: Caller) -> None:
    burst = Phase(from_s=0, to_s=20, endpoint="echo", faults=(Answer(op=Operation.RUN, status=429),))
    echo.simulator.follow(FaultProgramme(phases=(burst,)))
    assert echo.call("POST", "run", {"input": {"n": 1}}).status_code == 429
    assert echo.call("GET", "health").status_code == 200
    wait_for(lambda: echo.call("POST", "run", {"input": {"n": 1}}).status_code == 200)
    view = echo.control.faults()[0]
    assert view.to_s is not None
    assert (view.to_s - view.from_s, echo.simulator.now() > view.to_s, view.struck >= 1) == (20, True, True)
    with pytest.raises(RequestRejected, match="there is no endpoint 'other'"):
        echo.simulator.follow(FaultProgramme(phases=(Phase(endpoint="other", faults=(Reset(),)),)))


def test_a_programme_with_a_seed_strikes_the_same_each_time(echo: Caller) -> None:
    def strikes(seed: int) -> list[int]:
        half = Answer(op=Operation.HEALTH, status=503, probability=0.5)
        echo.simulator.follow(FaultProgramme(seed=seed, phases=(Phase(faults=(half,)),)))
        return [echo.call("GET", "health").status_code for _ in range(30)]

    assert strikes(7) == strikes(7)
    assert strikes(7) != strikes(8)


def test_a_programme_is_an_option_of_the_command(tmp_path: Path) -> None:
    file = tmp_path / "programme.yaml"
    file.write_text("phases:\n  - faults:\n      - {kind: answer, op: health, status: 503}\n")
    with running("--endpoint", "a=echo", "--faults", str(file)) as (_, ready):
        headers = {"Authorization": f"Bearer {DEFAULT_KEY}"}
        assert requests.get(f"{ready['base_url']}/a/health", headers=headers, timeout=5).status_code == 503
    file.write_text("phases:\n  - endpoint: b\n    faults:\n      - {kind: reset}\n")
    for content, says in ((None, "there is no endpoint 'b'"), ("phases: 3", "line 1: phases:")):
        if content is not None:
            file.write_text(content)
        result = CliRunner().invoke(simulate, ["--port", "0", "--endpoint", "a=echo", "--faults", str(file)])
        assert (result.exit_code, result.output.count("\n")) == (1, 1)
        assert says in result.output


def test_a_late_progress_changes_nothing_but_as_a_fault(joined: Caller) -> None:
    for struck in (False, True):
        job_id = joined.run()
        assert joined.take() == {"id": job_id, "input": {"n": 1}}
        assert joined.done(job_id, {"status": "IN_PROGRESS", "output": {"percent": 50}}) == 200
        assert joined.status(job_id)["output"] == {"percent": 50}
        assert joined.done(job_id, {"output": {"ok": True}}) == 200
        if struck:
            joined.control.add_fault(LateProgress())
        assert joined.done(job_id, {"status": "IN_PROGRESS", "output": {"percent": 99}}) == 200
        seen = joined.status(job_id)
        assert (seen["status"], seen["output"]) == (
            ("IN_PROGRESS", {"percent": 99}) if struck else ("COMPLETED", {"ok": True})
        )


def test_what_joined_workers_call_can_be_struck(joined: Caller) -> None:
    job_id = joined.run()
    assert joined.take() is not None
    joined.control.add_fault(LoseAnswer(op=WorkerOperation.JOB_DONE, after=False))
    with pytest.raises(requests.ConnectionError):
        joined.done(job_id, {"output": 1})
    assert joined.status(job_id)["status"] == "IN_PROGRESS"
    joined.done(job_id, {"output": 1})
    assert joined.status(job_id)["output"] == 1


def test_a_result_over_the_limit_and_one_that_is_no_json_are_refused(joined: Caller) -> None:
    job_id = joined.run()
    joined.take()
    url = f"{joined.simulator.base_url}/joined/job-done/w1/{job_id}?x=1"
    no_json = requests.post(url, data='{"output": NaN}', headers={"Authorization": DEFAULT_KEY}, timeout=5)
    assert (no_json.status_code, joined.status(job_id)["status"]) == (400, "IN_PROGRESS")
    assert joined.done(job_id, {"output": "x" * 2000}) == 400
    seen = joined.status(job_id)
    assert (seen["status"], "output" in seen) == ("COMPLETED", False)
    assert joined.done(job_id, {"output": "short"}) == 200
    assert "output" not in joined.status(job_id), "the end stands"


def test_a_job_that_its_worker_does_not_name_goes_to_another(simulator: RunningSimulator) -> None:
    joined = Caller(simulator, "hasty")
    job_id = joined.run()
    assert joined.take("w1") is not None
    until = time.monotonic() + LEASE_S * 1.5
    while time.monotonic() < until:
        joined.ping(job_id, worker_id="w1")
        time.sleep(0.05)
    assert joined.status(job_id).get("retries") is None

    def lost() -> bool:
        joined.ping(worker_id="w1")
        return joined.status(job_id)["status"] == "IN_QUEUE"

    wait_for(lost)
    simulator.endpoint("hasty").update(lease_s=60)
    assert joined.take("w2") == {"id": job_id, "input": {"n": 1}}
    assert joined.done(job_id, {"output": "of w1"}, "w1") == 200
    assert joined.status(job_id)["status"] == "IN_PROGRESS", "w1 has no say any more"
    joined.ping(job_id, worker_id="w1")
    stops = joined.call("GET", "job-stop/w1", gpu="x")
    assert stops.json() == {"jobsToStop": [job_id]}
    joined.done(job_id, {"output": "of w2"}, "w2")
    seen = joined.status(job_id)
    assert (seen["output"], seen["retries"], seen["workerId"]) == ("of w2", 1, "w2")


def test_jobs_come_in_batches_and_an_unfit_worker_gets_none(joined: Caller) -> None:
    ids = [joined.run({"n": number}) for number in range(3)]
    batch = joined.call("GET", "job-take-batch/w1", gpu="x", batch_size=2).json()
    assert [job["id"] for job in batch] == ids[:2]
    joined.ping(worker_id="w2", status="unhealthy", check="disk", reason="full")
    assert joined.call("GET", "health").json()["workers"]["unhealthy"] == 1
    assert joined.status(ids[2])["status"] == "IN_QUEUE"
    assert joined.call("GET", "job-take-batch/w1", gpu="x", batch_size="no").status_code == 400


def test_a_result_for_a_job_whose_ttl_is_over_is_404(joined: Caller) -> None:
    job_id = joined.run(policy={"ttl": 10_000})
    joined.take()
    wait_for(lambda: joined.call("GET", f"status/{job_id}").status_code == 404)
    assert joined.done(job_id, {"output": 1}) == 404
    assert json.loads(joined.call("GET", "health").content)["jobs"]["failed"] == 1
