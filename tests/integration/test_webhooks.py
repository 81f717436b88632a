"""Webhook calls and submits without an answer: nudges are believed by nobody, and nothing is paid for twice."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

import ryla_tasks
from ryla_tasks.errors import SubmitOutcomeUnknown
from ryla_tasks.jobs.states import State
from ryla_tasks.simulator import LoseAnswer, Operation
from ryla_tasks.tasks.webhook_token import Attempt, make_token, read_token
from ryla_tasks.webhooks import Received, receive
from ryla_tasks.webhooks.wsgi import app as wsgi
from tests.conftest import fresh_settings
from tests.support.fleet import Fleet, WorkerProcess, eventually
from tests.support.hooks import SECRET, webhooks


@pytest.fixture
def hooked(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """A worker, and a web server that takes its webhook calls."""
    with webhooks() as hooks:
        for name, value in hooks.items():
            monkeypatch.setenv(name, value)
        fresh_settings()
        assert os.environ["RYLA_WEBHOOK_URL"]
        yield fleet.worker("--concurrency", "4", **hooks).wait_ready()
    monkeypatch.undo()
    fresh_settings()


def state_of(job_id: str) -> State:
    return ryla_tasks.Job.get(job_id).status


def test_a_webhook_tells_the_end_long_before_the_next_poll(fleet: Fleet, hooked: WorkerProcess) -> None:
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 3}})
    assert result.get(timeout=12)["data"]
    # Without it the safety net would have come after 30 s.
    assert fleet.endpoint("echo").counters().calls["status"][200] <= 3


def test_a_lost_answer_is_found_again_by_the_webhook(fleet: Fleet, hooked: WorkerProcess) -> None:
    fleet.endpoint("echo").add_fault(LoseAnswer(op=Operation.RUN, times=1))
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 2}}, on_unknown="wait")
    eventually(lambda: state_of(result.id) is State.UNKNOWN)
    assert result.get(timeout=20)["attempts"] == 1
    counters = fleet.endpoint("echo").counters()
    assert (counters.accepted, counters.duplicates, counters.billable_starts) == (1, 0, 1)


def test_under_fail_a_lost_answer_ends_the_job_at_once(fleet: Fleet, hooked: WorkerProcess) -> None:
    fleet.endpoint("echo").add_fault(LoseAnswer(op=Operation.RUN, times=1))
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 1}}, on_unknown="fail")
    with pytest.raises(SubmitOutcomeUnknown):
        result.get(timeout=10)
    assert fleet.endpoint("echo").counters().accepted == 1


def test_an_image_is_submitted_again_and_its_twin_kept_or_cancelled(fleet: Fleet, hooked: WorkerProcess) -> None:
    # The first attempt's answer and its webhook are late: the record is made to believe that its time is over.
    fleet.endpoint("echo").add_fault(LoseAnswer(op=Operation.RUN, times=1))
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 600}}, on_unknown="resubmit")
    eventually(lambda: state_of(result.id) is State.UNKNOWN)
    fleet.client.zadd("ryla:due:submit:echo", {result.id: 1_000})
    fleet.client.zadd("ryla:outbox", {f"submit:echo|{result.id}": 1_000})
    record = eventually(
        lambda: (r := ryla_tasks.Job.get(result.id).record).attempt == 2 and r.remote_id and r, timeout=30
    )
    first = next(job for job in fleet.endpoint("echo").jobs() if job.id != record.remote_id)
    token = make_token(SecretStr(SECRET), Attempt(result.id, 1))
    assert receive(token, json.dumps({"id": first.id, "status": "IN_PROGRESS"}).encode()) is Received.NOTED
    eventually(lambda: fleet.endpoint("echo").job(first.id).status == "CANCELLED", timeout=30)
    assert ryla_tasks.Job.get(result.id).record.remote_id == record.remote_id
    ryla_tasks.Job.get(result.id).cancel()


def test_a_completed_twin_is_kept_and_its_sibling_cancelled(fleet: Fleet, hooked: WorkerProcess) -> None:
    fleet.endpoint("echo").add_fault(LoseAnswer(op=Operation.RUN, times=1))
    body = {"simulate": {"seconds": 1}}
    held = ryla_tasks.run_endpoint.delay("echo", body, on_unknown="resubmit")
    eventually(lambda: fleet.endpoint("echo").counters().accepted == 1)
    (first,) = fleet.endpoint("echo").jobs()
    # No webhook arrives: the call is made by hand below, when the second attempt is under way.
    fleet.client.hset(
        f"ryla:job:{held.id}", mapping={"state": "queued", "unanswered": json.dumps([[1, "runpod:echo"]])}
    )
    fleet.endpoint("echo").update(run_s=600.0)
    eventually(lambda: fleet.endpoint("echo").job(first.id).status == "COMPLETED")
    token = make_token(SecretStr(SECRET), Attempt(held.id, 1))
    fleet.client.hset(f"ryla:job:{held.id}", "attempt", 2)
    assert receive(token, json.dumps({"id": first.id}).encode()) is Received.NOTED
    assert held.get(timeout=20)["remote_id"] == first.id


def test_forged_doubled_and_late_calls_change_nothing(fleet: Fleet, hooked: WorkerProcess) -> None:
    result = ryla_tasks.run_endpoint.delay("echo", {"simulate": {"seconds": 1}})
    value = result.get(timeout=20)
    token = make_token(SecretStr(SECRET), Attempt(result.id, 1))
    before = eventually(lambda: (record := ryla_tasks.Job.get(result.id).record).delivered and record)
    for body in (b"{}", b"", b"\xff", json.dumps({"id": "other", "status": "FAILED"}).encode()):
        assert receive(token, body) is Received.NOTED
    assert receive(token[:-1] + ("A" if token[-1] != "A" else "B"), b"{}") is Received.FORGED
    assert receive("", b"{}") is Received.FORGED
    assert receive(make_token(SecretStr("another-secret-of-16"), Attempt(result.id, 1)), b"{}") is Received.FORGED
    assert receive(make_token(SecretStr(SECRET), Attempt("never-made", 1)), b"{}") is Received.NOTED
    assert ryla_tasks.Job.get(result.id).record == before
    assert ryla_tasks.Job.get(result.id).result() == value


def test_the_wsgi_app_limits_what_it_takes() -> None:
    def call(**environ: Any) -> int:
        seen: list[str] = []
        given = {"REQUEST_METHOD": "POST", "PATH_INFO": "/hooks/x", "wsgi.input": io.BytesIO(b"{}"), **environ}
        list(wsgi(given, lambda status, _headers: seen.append(status)))
        return int(seen[0].split()[0])

    assert call(REQUEST_METHOD="GET") == 405
    assert call() == 411
    assert call(CONTENT_LENGTH="-1") == 411
    assert call(CONTENT_LENGTH=str(10**10)) == 413


@pytest.mark.parametrize("job_id", ["plain", "with.dots/and ümlauts", "x" * 100])
def test_tokens_name_their_attempt_and_nothing_else(job_id: str) -> None:
    secret = SecretStr(SECRET)
    token = make_token(secret, Attempt(job_id, 7))
    assert read_token(secret, token) == Attempt(job_id, 7)
    for place in range(len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert read_token(secret, changed) in (None, Attempt(job_id, 7)) or changed == token
