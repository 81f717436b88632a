"""The simulator over HTTP, as a client of RunPod meets it."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from ryla_tasks.errors import ConfigurationError, NotConnected, RequestRejected
from ryla_tasks.simulator import (
    LOST,
    Answer,
    CallWebhook,
    Delay,
    EndpointConfig,
    JobStatus,
    LoseAnswer,
    Operation,
    Outdated,
    RunningSimulator,
    Simulator,
    SimulatorClient,
    SimulatorConfig,
)

KEY = "right-key"
SCALE = 100.0


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    with Simulator.running(SimulatorConfig(keys=(KEY, "second-key"), time_scale=SCALE)) as running:
        yield running


class Api:
    """One endpoint, called as plainly as can be."""

    def __init__(self, simulator: RunningSimulator, endpoint_id: str) -> None:
        self.control = simulator.endpoint(endpoint_id)
        self.url = f"{simulator.base_url}/{endpoint_id}"
        self.headers = {"Authorization": f"Bearer {KEY}"}

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, f"{self.url}/{path}", headers=self.headers, timeout=20, **options)

    def run(self, **options: Any) -> str:
        answer = self.call("POST", "run", json={"input": {"n": 1, "simulate": options.pop("simulate", {})}, **options})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"id": answer.json()["id"], "status": "IN_QUEUE"}
        return str(answer.json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", f"status/{job_id}").json()
        return answer

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.when(job_id, "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")

    def when(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """The first answer with one of these statuses."""

        def look() -> dict[str, Any] | None:
            answer = self.status(job_id)
            return answer if answer["status"] in statuses else None

        found: dict[str, Any] = wait_for(look)
        return found


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)
    return value


@pytest.fixture
def open_endpoint(simulator: RunningSimulator) -> Iterator[Callable[..., Api]]:
    opened: list[str] = []

    def open_one(**settings: Any) -> Api:
        endpoint_id = f"ep{len(opened)}"
        defaults = {"program": "echo", "workers_min": 2, "workers_max": 2, "cold_start_s": 0, "run_s": 2, "steps": 4}
        simulator.add_endpoint(EndpointConfig(endpoint_id=endpoint_id, **{**defaults, **settings}))
        opened.append(endpoint_id)
        return Api(simulator, endpoint_id)

    yield open_one
    for endpoint_id in opened:
        simulator.endpoint(endpoint_id).remove()


def test_a_job_from_run_to_its_output_by_get_and_by_post(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(run_s=60)
    job_id = api.run()
    running = api.when(job_id, "IN_PROGRESS")
    assert set(running) == {"id", "status", "delayTime", "workerId", "output"}
    assert set(running["output"]) == {"percent", "step", "steps", "node"}
    done = api.ended(job_id)
    assert (done["status"], done["executionTime"]) == ("COMPLETED", 60_000)
    assert done["output"] == {"n": 1, "simulate": {}}
    assert api.call("POST", f"status/{job_id}").json() == done


def test_progress_only_rises(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    job_id = api.run(simulate={"seconds": 40, "steps": 10})
    seen: list[int] = []
    while (now := api.status(job_id))["status"] != "COMPLETED":
        if "output" in now:
            seen.append(now["output"]["percent"])
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_keys(open_endpoint: Callable[..., Api], simulator: RunningSimulator) -> None:
    api = open_endpoint()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}):
        assert requests.get(f"{api.url}/health", headers=headers, timeout=5).status_code == 401
    assert requests.get(f"{api.url}/health", headers={"Authorization": "Bearer second-key"}, timeout=5).ok
    assert requests.get(f"{simulator.base_url}/nothing-here/health", timeout=5).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "run", 405),
        ("GET", "status", 404),
        ("GET", "status/never-was", 404),
        ("POST", "cancel/never-was", 404),
        ("POST", "retry/never-was", 404),
        ("GET", "stream/never-was", 404),
        ("GET", "no-such-operation", 404),
        ("GET", "", 404),
    ],
)
def test_what_is_not_there(open_endpoint: Callable[..., Api], method: str, path: str, status: int) -> None:
    answer = open_endpoint().call(method, path)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "input"),
        ({"input": [1]}, "input"),
        ({"input": "text"}, "input"),
        ([], "body"),
        ({"input": {}, "webhook": 1}, "webhook"),
        ({"input": {}, "policy": 1}, "policy"),
        ({"input": {}, "policy": {"executionTimeout": 4_999}}, "policy.executionTimeout"),
        ({"input": {}, "policy": {"executionTimeout": 604_800_001}}, "policy.executionTimeout"),
        ({"input": {}, "policy": {"ttl": 9_999}}, "policy.ttl"),
        ({"input": {}, "policy": {"ttl": True}}, "policy.ttl"),
    ],
)
def test_a_wrong_submit_is_400_and_makes_no_job(open_endpoint: Callable[..., Api], body: Any, names: str) -> None:
    api = open_endpoint()
    answer = api.call("POST", "run", json=body)
    assert answer.status_code == 400
    assert names in answer.json()["error"]
    assert api.control.counters().accepted == 0


def test_the_payload_limit_and_broken_json(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    for size, status in ((10 * 1024 * 1024 - 20, 200), (11_000_000, 400)):
        assert api.call("POST", "run", data=b'{"input":{"x":"' + b"y" * (size - 4) + b'"}}').status_code == status
    chunks = (b"z" * 100_000 for _ in range(120))
    assert api.call("POST", "run", data=chunks).status_code == 400  # no Content-Length to go by
    assert api.call("POST", "run", data=b"{").status_code == 400
    assert api.control.counters().accepted == 1


def test_policies_reach_the_job(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    slow = api.run(simulate={"never_end": True}, policy={"executionTimeout": 5_000})
    ended = api.ended(slow)
    assert (ended["status"], ended["executionTime"]) == ("TIMED_OUT", 5_000)
    gone = api.run(simulate={"never_end": True}, policy={"ttl": 50_000})
    assert api.call("GET", f"status/{gone}").ok
    wait_for(lambda: api.call("GET", f"status/{gone}").status_code == 404)


def test_results_are_404_after_their_retention(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(retention_s=20)
    job_id = api.run()
    assert api.ended(job_id)["status"] == "COMPLETED"
    wait_for(lambda: api.call("GET", f"status/{job_id}").status_code == 404)


def test_cancel_is_idempotent_and_an_end_stays(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    job_id = api.run(simulate={"never_end": True})
    for _ in range(2):
        assert api.call("POST", f"cancel/{job_id}").json() == {"id": job_id, "status": "CANCELLED"}
    assert api.control.counters().cancels == 1
    done = api.run()
    api.ended(done)
    assert api.call("POST", f"cancel/{done}").json()["status"] == "COMPLETED"


def test_retry_is_for_failed_jobs_only(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    job_id = api.run(simulate={"fail": "once", "fail_runs": 1, "seconds": 0, "fail_output": {"details": ["why"]}})
    failed = api.ended(job_id)
    assert (failed["status"], failed["error"], failed["output"]) == ("FAILED", "once", {"details": ["why"]})
    assert api.call("POST", f"retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    assert api.ended(job_id)["status"] == "COMPLETED"
    assert api.call("POST", f"retry/{job_id}").status_code == 400


def test_purge_and_health(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(workers_min=1, workers_max=1)
    jobs = [api.run(simulate={"never_end": True}) for _ in range(3)]
    assert api.call("GET", "health").json()["jobs"]["inQueue"] == 2
    assert api.call("POST", "purge-queue").json() == {"removed": 2, "status": "completed"}
    assert [api.status(job)["status"] for job in jobs] == ["IN_PROGRESS", "CANCELLED", "CANCELLED"]
    assert set(api.call("GET", "health").json()["workers"]) == {
        "idle", "initializing", "ready", "running", "throttled", "unhealthy",
    }  # fmt: skip


def test_runsync_waits_for_the_end_or_for_its_time(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    done = api.call("POST", "runsync", json={"input": {"a": 1}}).json()
    assert done["id"].startswith("sync-")
    assert (done["status"], done["output"]) == ("COMPLETED", {"a": 1})
    held = api.call("POST", "runsync?wait=1000", json={"input": {"simulate": {"never_end": True}}}).json()
    assert held["status"] == "IN_PROGRESS"
    assert api.call("POST", "runsync?wait=1", json={"input": {"a": 1}}).status_code == 400


def test_stream_drains(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    job_id = api.run(simulate={"chunks": ["a", "b", "c"], "seconds": 30})
    chunks: list[Any] = []
    reads = 0
    status = "IN_QUEUE"
    while status != "COMPLETED":
        answer = api.call("GET", f"stream/{job_id}").json()
        status = answer["status"]
        chunks += answer["stream"]
        reads += 1
    assert chunks == [{"output": one} for one in "abc"]
    assert 2 <= reads < 10, "an empty read is held back"
    assert api.call("GET", f"stream/{job_id}").json() == {"status": "COMPLETED", "stream": []}


def test_an_output_over_the_limit_is_lost_though_completed(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(output_limit_bytes=1000)
    for directive in ({"output_bytes": 2000}, {"no_output": True}):
        done = api.ended(api.run(simulate=directive))
        assert (done["status"], "output" in done) == ("COMPLETED", False)
    assert len(api.ended(api.run(simulate={"output_bytes": 500}))["output"]["data"]) == 500


def test_painted_images_come_over_the_api(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(program="image")
    workflow = {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}},
        "2": {"class_type": "KSampler", "inputs": {"seed": 5, "positive": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
    }
    job_id = api.call("POST", "run", json={"input": {"workflow": workflow}}).json()["id"]
    image = api.ended(job_id)["output"]["images"][0]
    assert (image["type"], image["filename"]) == ("base64", "ComfyUI_00001_.png")
    assert base64.b64decode(image["data"], validate=True).startswith(b"\x89PNG")
    failed = api.ended(api.call("POST", "run", json={"input": {"prompt": "no workflow"}}).json()["id"])
    assert (failed["status"], failed["error"]) == ("FAILED", "Missing 'workflow' parameter")


def test_a_websocket_is_refused(simulator: RunningSimulator, open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }
    answer = requests.get(f"{api.url}/status/x", headers=headers, timeout=5)
    assert (answer.status_code, answer.json()) == (400, {"error": "not allowed for QB API"})


def test_rates_are_limited_each_operation_for_itself() -> None:
    limited = EndpointConfig(endpoint_id="limited", program="echo")
    free = EndpointConfig(endpoint_id="free", program="echo", rate_limits=False)
    with Simulator.running(SimulatorConfig(keys=(KEY,), endpoints=(limited, free))) as slow:
        api = Api(slow, "limited")
        answers = [api.call("POST", "purge-queue") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].json() == {"error": "too many requests"}
        assert api.call("GET", "health").ok
        assert {Api(slow, "free").call("POST", "purge-queue").status_code for _ in range(5)} == {200}
        assert api.control.counters().calls["purge-queue"] == {200: 2, 429: 1}


def test_calls_at_once_are_limited_and_a_stop_does_not_wait_for_held_answers() -> None:
    config = EndpointConfig(
        endpoint_id="ep", program="echo", faults=(Delay(op=Operation.CANCEL, seconds=60, times=None),)
    )
    codes: list[int] = []
    hung_up: list[requests.ConnectionError] = []

    def cancel() -> None:
        try:
            codes.append(api.call("POST", "cancel/any").status_code)
        except requests.ConnectionError as error:
            hung_up.append(error)

    with Simulator.running(SimulatorConfig(keys=(KEY,), endpoints=(config,))) as slow:
        api = Api(slow, "ep")
        threads = [threading.Thread(target=cancel) for _ in range(25)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(codes) == 5)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    for thread in threads:
        thread.join()
    assert codes == [429] * 5
    assert len(hung_up) == 20


def test_a_lost_answer_to_run_leaves_a_job_that_nobody_knows(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    body = {"input": {"ryla": {"correlation_id": "mark"}}}
    api.control.add_fault(LoseAnswer(op=Operation.RUN, skip=1, times=2))
    assert api.call("POST", "run", json=body).status_code == 200
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            api.call("POST", "run", json=body)
    assert api.call("POST", "run", json=body).status_code == 200
    counters = api.control.counters()
    assert (counters.accepted, counters.duplicates) == (4, 3)
    assert counters.calls["run"] == {200: 2, LOST: 2}
    assert {job.correlation_id for job in api.control.jobs()} == {"mark"}


def test_a_lost_request_does_nothing(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    api.control.add_fault(LoseAnswer(op=Operation.RUN, after=False))
    with pytest.raises(requests.ConnectionError):
        api.run()
    assert api.control.counters().accepted == 0


def test_false_answers(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    job_id = api.run(simulate={"never_end": True})
    for fault in (
        Answer(op=Operation.STATUS, status=429, retry_after=7),
        Answer(op=Operation.STATUS, status=404, remote_id=job_id),
        Answer(op=Operation.STATUS, status=200, body="<html>not JSON"),
    ):
        api.control.add_fault(fault)
    limited, lost, garbled, true = [api.call("GET", f"status/{job_id}") for _ in range(4)]
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "7")
    assert (lost.status_code, lost.json()) == (404, {"error": "job not found"})
    assert garbled.text == "<html>not JSON"
    assert true.json()["status"] == "IN_PROGRESS"
    assert [view.struck for view in api.control.faults()] == [1, 1, 1]


def test_a_502_after_the_submit_has_taken_the_job(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    with api.control.fault(Answer(op=Operation.RUN, status=502, after=True)):
        assert api.call("POST", "run", json={"input": {}}).status_code == 502
    assert api.control.counters().accepted == 1
    assert api.control.faults() == []


def test_a_slow_answer_holds_up_no_other(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    api.control.add_fault(Delay(op=Operation.HEALTH, seconds=100))
    began = time.monotonic()
    slow = threading.Thread(target=lambda: api.call("GET", "health"))
    slow.start()
    wait_for(lambda: api.control.faults()[0].struck)
    assert api.call("GET", "health").ok
    assert slow.is_alive()
    slow.join()
    assert time.monotonic() - began >= 100 / SCALE


def test_an_outdated_answer_shows_an_ended_job_as_it_ran(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(steps=4)
    job_id = api.run(simulate={"seconds": 10})
    truth = api.ended(job_id)
    with api.control.fault(Outdated(times=1)):
        answer = api.status(job_id)
        assert answer["status"] == "IN_PROGRESS"
        assert answer["output"]["percent"] == 50
        assert "executionTime" not in answer
        assert api.status(job_id) == truth
    late = api.run(simulate={"never_end": True})
    with api.control.fault(Outdated(times=1)):
        api.when(late, "IN_PROGRESS")
        assert api.control.faults()[0].struck == 0, "it is no news of a job that runs"


class Hooks(ThreadingHTTPServer):
    """Takes webhooks and answers with the codes that it was given, then 200."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.bodies: list[bytes] = []
        self.agents: list[str | None] = []
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hooks.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                hooks.agents.append(self.headers["User-Agent"])
                self.send_response(hooks.codes.pop(0) if hooks.codes else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=t"

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()


def test_a_webhook_brings_the_job_at_most_three_times_the_same_bytes(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint()
    with Hooks(500, 503, 500, 200) as hooks:
        job_id = api.run(webhook=hooks.url)
        wait_for(lambda: len(hooks.bodies) == 3)
        done = api.run(webhook=hooks.url)
        wait_for(lambda: len(hooks.bodies) == 4)
        wait_for(lambda: api.control.counters().webhooks_delivered == 1)
    assert hooks.bodies[0] == hooks.bodies[1] == hooks.bodies[2]
    body = json.loads(hooks.bodies[0])
    assert set(body) == {"delayTime", "executionTime", "id", "input", "output", "status", "webhook", "workerId"}
    assert (body["id"], body["status"], body["output"]) == (job_id, "COMPLETED", body["input"])
    assert json.loads(hooks.bodies[3])["id"] == done
    assert set(hooks.agents) == {"Go-http-client/2.0"}
    assert api.control.counters().webhooks_sent == 4


def test_a_webhook_also_tells_of_failure_and_cancel_and_a_dead_one_harms_nobody(
    open_endpoint: Callable[..., Api],
) -> None:
    api = open_endpoint()
    with Hooks() as hooks:
        api.run(webhook=hooks.url, simulate={"fail": "no"})
        cancelled = api.run(webhook=hooks.url, simulate={"never_end": True})
        api.call("POST", f"cancel/{cancelled}")
        wait_for(lambda: len(hooks.bodies) == 2)
        url = hooks.url
    assert {json.loads(body)["status"] for body in hooks.bodies} == {"FAILED", "CANCELLED"}
    assert api.ended(api.run(webhook=url))["status"] == "COMPLETED"
    wait_for(lambda: api.control.counters().webhooks_sent == 5)


def test_webhooks_are_doubled_and_lost_on_purpose(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(run_s=1)
    api.control.add_fault(CallWebhook(times_each=2))
    api.control.add_fault(CallWebhook(times_each=0))
    with Hooks() as hooks:
        doubled, lost, usual = (api.run(webhook=hooks.url) for _ in range(3))
        wait_for(lambda: all(api.status(job)["status"] == "COMPLETED" for job in (doubled, lost, usual)))
        wait_for(lambda: api.control.counters().webhooks_delivered == 3)
    told = [json.loads(body)["id"] for body in hooks.bodies]
    assert sorted(told) == sorted([doubled, doubled, usual])


def test_settings_change_while_it_runs(open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(workers_min=0, workers_max=0)
    job_id = api.run()
    assert api.status(job_id)["status"] == "IN_QUEUE"
    assert api.control.update(workers_max=1).config.workers_max == 1
    assert api.ended(job_id)["status"] == "COMPLETED"
    for wrong in ({"workers_max": -1}, {"nonsense": 1}, {"endpoint_id": "other"}, {"program": "unknown"}):
        with pytest.raises(RequestRejected):
            api.control.update(**wrong)


def test_counters_and_jobs_and_reset(simulator: RunningSimulator, open_endpoint: Callable[..., Api]) -> None:
    api = open_endpoint(price_per_s=0.5, workers_min=0, idle_timeout_s=5)
    job_id = api.run(simulate={"seconds": 10})
    api.ended(job_id)
    wait_for(lambda: api.control.view().workers["idle"] == 0)
    counters = api.control.counters()
    assert (counters.accepted, counters.billable_starts, counters.ended) == (1, 1, {"COMPLETED": 1})
    assert (counters.billable_seconds, counters.cost) == (15, 7.5)
    job = api.control.job(job_id)
    assert (job.status, job.runs, job.input) == (JobStatus.COMPLETED, 1, {"n": 1, "simulate": {"seconds": 10}})
    simulator.reset()
    assert api.control.counters().accepted == 0
    assert api.control.jobs() == []
    assert api.call("GET", f"status/{job_id}").status_code == 404


def test_it_says_what_it_is(simulator: RunningSimulator) -> None:
    answer = requests.get(simulator.url, timeout=5)
    assert "simulated RunPod" in answer.json()["what"]
    assert answer.json() == simulator.about() | {"simulated_seconds": answer.json()["simulated_seconds"]}
    assert requests.get(f"{simulator.url}/else", timeout=5).status_code == 404


def test_the_control_client_says_what_was_wrong(simulator: RunningSimulator) -> None:
    with pytest.raises(RequestRejected, match="no endpoint 'missing'"):
        simulator.endpoint("missing").counters()
    with pytest.raises(RequestRejected, match="nonsense"):
        simulator.call("POST", "/simulator/endpoints", {"endpoint_id": "a", "nonsense": 1})
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NotConnected):
            SimulatorClient(f"http://127.0.0.1:{unused.getsockname()[1]}").about()


def test_a_simulator_that_cannot_start_says_why(simulator: RunningSimulator) -> None:
    port = urlsplit(simulator.url).port or 0
    with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
        Simulator.running(SimulatorConfig(port=port))
    wrong = EndpointConfig(endpoint_id="ep", program="video")
    with pytest.raises(ConfigurationError, match="no program 'video'; known: echo, image"):
        Simulator.running(SimulatorConfig(endpoints=(wrong,)))


def test_stopping_frees_the_port_and_is_safe_to_repeat() -> None:
    running = Simulator.running(SimulatorConfig())
    running.stop()
    running.stop()
    with pytest.raises(NotConnected):
        running.about()
