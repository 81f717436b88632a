"""RunPod's serverless API as RunPod documents it, and as it was captured; the simulator has to pass the same.

    pytest tests/conformance                                                      # against the simulator
    RUNPOD_API_KEY=... RYLA_CONFORMANCE_ENDPOINT=... pytest tests/conformance      # against RunPod (cents, minutes)

The endpoint runs handler.py, which says how. Nothing here touches jobs that it did not submit.

Each test names the source of what it checks:
D = a page of RunPod's documentation; GP n = RunPod's own live captures, runpod-plugins-official, golden path n;
CTL = runpodctl, the command-line client; SDK = the `runpod` package 1.12.0; issues by repository and number.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.conformance.target import Endpoint, Target, needs

WORKERS = {"idle", "initializing", "ready", "running", "throttled", "unhealthy"}
JOBS = {"completed", "failed", "inProgress", "inQueue", "retried"}


def test_run_answers_at_once_with_an_id(echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /run; GP 15."""
    answer = echo.call("POST", "run", {"input": {"n": 1}})
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "status"}
    assert answer.json()["status"] == "IN_QUEUE"
    assert answer.json()["id"]


def test_status_of_a_job_that_completes(echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /status; D job-states; GP 15: `workerId` comes with the run."""
    job_id = echo.run({"n": 1, "seconds": 0.5})
    seen = [echo.status(job_id)]
    while seen[-1]["status"] in ("IN_QUEUE", "IN_PROGRESS"):
        time.sleep(echo.pause_s)
        seen.append(echo.status(job_id))
    done = seen[-1]
    assert done["status"] == "COMPLETED"
    assert done["output"]["echo"] == {"n": 1, "seconds": 0.5}
    assert {"id", "status", "output", "delayTime", "executionTime", "workerId"} <= set(done)
    assert done["executionTime"] >= 500
    assert all("workerId" not in one for one in seen if one["status"] == "IN_QUEUE")
    assert all(one["id"] == job_id for one in seen)


def test_status_takes_post_too(echo: Endpoint) -> None:
    """D operations.md before September 2025; RunPod's js-sdk."""
    job_id = echo.run({"n": 1})
    echo.ended(job_id)
    assert echo.call("POST", f"status/{job_id}").json()["status"] == "COMPLETED"


def test_progress_is_the_output_of_a_running_job(echo: Endpoint) -> None:
    """SDK serverless/modules/rp_progress.py; runpod-python #250; worker-comfyui #221."""
    job_id = echo.run({"progress": [{"percent": 25}, {"percent": 50}], "seconds": 3})
    echo.when(job_id, "IN_PROGRESS")
    until = time.monotonic() + echo.patience_s
    while "output" not in (seen := echo.status(job_id)):
        assert time.monotonic() < until
        time.sleep(echo.pause_s)
    assert seen["status"] == "IN_PROGRESS"
    assert seen["output"]["percent"] in (25, 50)
    echo.call("POST", f"cancel/{job_id}")


def test_an_exception_fails_the_job_with_json_in_a_text(echo: Endpoint) -> None:
    """SDK serverless/modules/rp_job.py, run_job."""
    failed = echo.ended(echo.run({"raise": "out of memory"}))
    assert failed["status"] == "FAILED"
    error = json.loads(failed["error"])
    assert error["error_message"] == "out of memory"
    assert {"error_type", "error_traceback", "worker_id", "runpod_version"} <= set(error)


def test_an_error_that_the_handler_returns_fails_the_job(echo: Endpoint) -> None:
    """SDK serverless/modules/rp_job.py, run_job. Where RunPod shows the other fields is not published."""
    failed = echo.ended(echo.run({"answer": {"error": "no face found", "code": "no_face"}}))
    assert (failed["status"], failed["error"]) == ("FAILED", "no face found")


def test_large_numbers_come_through(echo: Endpoint) -> None:
    """CTL internal/api/invoke.go: numbers may exceed 2^53."""
    assert echo.ended(echo.run({"n": 2**60 + 1}))["output"]["echo"]["n"] == 2**60 + 1


def test_other_fields_of_a_submit_are_discarded(echo: Endpoint) -> None:
    """D send-requests before September 2025."""
    assert echo.ended(echo.run({"n": 1}, nonsense={"a": 1}))["output"]["echo"] == {"n": 1}


def test_a_policy_is_taken(echo: Endpoint) -> None:
    """D serverless/endpoints/send-requests, "Execution policies"."""
    policy = {"executionTimeout": 60_000, "ttl": 3_600_000, "lowPriority": False}
    assert echo.ended(echo.run({"n": 1}, policy=policy))["status"] == "COMPLETED"


@pytest.mark.parametrize("wrong", [[1], 1, "text", None], ids=lambda value: type(value).__name__)
def test_an_input_must_be_an_object(echo: Endpoint, wrong: Any) -> None:
    """CTL cmd/serverless/run.go: an array or a scalar gets 400."""
    assert echo.call("POST", "run", {"input": wrong}).status_code == 400


def test_a_submit_over_10_mb_is_refused(echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference: 10 MB for /run. The status is not published."""
    assert echo.call("POST", "run", {"input": {"data": "x" * 11_000_000}}).status_code in (400, 413)


def test_runsync_waits_for_the_end(echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /runsync; CTL: its id begins with sync-."""
    answer = echo.call("POST", "runsync?wait=60000", {"input": {"n": 1}}).json()
    assert answer["id"].startswith("sync-")
    assert echo.ended(answer["id"])["output"]["echo"] == {"n": 1}


def test_runsync_gives_up_waiting(echo: Endpoint) -> None:
    """CTL internal/api/invoke.go: past `wait` the job comes as it is."""
    began = time.monotonic()
    answer = echo.call("POST", "runsync?wait=1000", {"input": {"seconds": 20}}).json()
    assert time.monotonic() - began < 15
    assert answer["status"] in ("IN_QUEUE", "IN_PROGRESS")
    echo.call("POST", f"cancel/{answer['id']}")


def test_a_cancel_ends_a_running_job(echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /cancel."""
    job_id = echo.run({"seconds": 60})
    echo.when(job_id, "IN_PROGRESS")
    answer = echo.call("POST", f"cancel/{job_id}")
    assert (answer.status_code, answer.json()) == (200, {"id": job_id, "status": "CANCELLED"})
    assert echo.status(job_id)["status"] == "CANCELLED"


def test_retry_runs_a_failed_job_again_under_its_id(echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /retry."""
    job_id = echo.run({"raise": "again"})
    echo.ended(job_id)
    answer = echo.call("POST", f"retry/{job_id}")
    assert (answer.status_code, answer.json()) == (200, {"id": job_id, "status": "IN_QUEUE"})
    assert echo.ended(job_id)["status"] == "FAILED"


def test_retry_refuses_a_job_that_completed(echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /retry: FAILED and TIMED_OUT only."""
    job_id = echo.run({"n": 1})
    echo.ended(job_id)
    assert 400 <= echo.call("POST", f"retry/{job_id}").status_code < 500


def test_stream_gives_each_chunk_once(stream: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /stream; GP 12: reading drains."""
    job_id = stream.run({"chunks": ["a", {"b": 1}, 3]})
    got: list[Any] = []
    until = time.monotonic() + stream.patience_s
    while time.monotonic() < until:
        answer = stream.call("GET", f"stream/{job_id}").json()
        assert set(answer) >= {"status", "stream"}
        got += [one["output"] for one in answer["stream"]]
        if answer["status"] == "COMPLETED" and not answer["stream"]:
            break
    assert got == ["a", {"b": 1}, 3]


def test_a_generator_s_output_is_the_list_of_its_chunks(stream: Endpoint) -> None:
    """SDK serverless/modules/rp_job.py, `return_aggregate_stream`."""
    assert stream.ended(stream.run({"chunks": [1, 2]}))["output"] == [1, 2]


def test_health_counts_jobs_and_workers(echo: Endpoint) -> None:
    """GP 15."""
    health = echo.call("GET", "health").json()
    assert set(health) == {"jobs", "workers"}
    assert set(health["jobs"]) == JOBS
    assert set(health["workers"]) == WORKERS
    assert all(isinstance(count, int) for counts in health.values() for count in counts.values())


def test_a_wrong_key_is_401(echo: Endpoint) -> None:
    """CTL internal/api/invoke.go; SDK endpoint/runner.py."""
    for method, path in (("GET", "health"), ("GET", "status/x"), ("POST", "run")):
        assert echo.call(method, path, {} if method == "POST" else None, key="wrong").status_code == 401


def test_an_unknown_endpoint_is_404(echo: Endpoint) -> None:
    """CTL internal/api/invoke.go."""
    answer = requests.get(
        f"{echo.base_url}/no-such-endpoint/health", headers={"Authorization": f"Bearer {echo.key}"}, timeout=20
    )
    assert answer.status_code == 404


def test_an_unknown_job_is_404(echo: Endpoint) -> None:
    """D serverless/endpoints/send-requests (expired jobs); CTL."""
    assert echo.call("GET", "status/00000000-0000-0000-0000-000000000000-u1").status_code == 404


def test_a_web_socket_is_refused(echo: Endpoint) -> None:
    """GP 17: only load-balancing endpoints have them. The status is not published."""
    status, body = echo.open_web_socket()
    assert status != 101
    assert body == {"error": "not allowed for QB API"}


def test_a_webhook_brings_the_job_with_its_input(target: Target, echo: Endpoint) -> None:
    """GP 16: the whole job, with `input` and `webhook`, unsigned."""
    needs(target, simulator=True)
    got: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((self.headers["User-Agent"], body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/hook?token=t"
        job_id = echo.run({"n": 1}, webhook=url)
        until = time.monotonic() + echo.patience_s
        while not got:
            assert time.monotonic() < until
            time.sleep(0.02)
        server.shutdown()
    agent, body = got[0]
    assert agent.startswith("Go-http-client/")
    assert {"delayTime", "executionTime", "id", "input", "output", "status", "webhook"} <= set(body)
    assert (body["id"], body["input"], body["webhook"], body["status"]) == (job_id, {"n": 1}, url, "COMPLETED")
    assert urlsplit(body["webhook"]).query == "token=t"


def test_purge_removes_what_is_queued(target: Target, echo: Endpoint) -> None:
    """D serverless/endpoints/operation-reference, /purge-queue."""
    needs(target, simulator=True)
    assert set(echo.call("POST", "purge-queue").json()) == {"removed", "status"}


def test_a_job_past_its_execution_time_is_ended(echo: Endpoint, slow_jobs: dict[str, str]) -> None:
    """D job-states: TIMED_OUT; D endpoint-configurations: it "fails". Both are accepted."""
    assert echo.ended(slow_jobs["times out"])["status"] in ("TIMED_OUT", "FAILED")


def test_an_empty_input_never_reaches_the_handler(stream: Endpoint, slow_jobs: dict[str, str]) -> None:
    """GP 15: dispatched again, its delay counted anew, then FAILED; SDK rp_job.py: "Job has missing field(s)".

    A worker with `concurrency_modifier` takes jobs in batches, where the SDK does not look: its handler gets no input.
    """
    failed = stream.ended(slow_jobs["empty"])
    assert failed["status"] == "FAILED"
    assert failed["retries"] >= 1
    assert failed["error"] == f"job timed out after {failed['retries']} retries"
    assert failed["workerId"]
