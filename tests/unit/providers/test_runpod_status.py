"""Asking about jobs: what is read, what is repeated, and for how long."""

from __future__ import annotations

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from raw_server import RawServer, Seen, drip, hang_up, raw, reply, silence

from ryla_tasks.errors import (
    AnswerLost,
    EndpointNotFound,
    InvalidJob,
    MalformedAnswer,
    NotConnected,
    RateLimited,
    RemoteJobNotFound,
    RequestRejected,
    ServerError,
    Unauthorized,
    WaitTimeout,
)
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.providers.runpod import CallRetry, Timeouts

RUNNING = {"id": "abc-u1", "status": "IN_PROGRESS", "delayTime": 5, "workerId": "w1", "output": {"percent": 40}}


def test_a_running_job(serve, connect):
    server = serve(reply(200, RUNNING))
    job = connect(server).status("ep1", "abc-u1")
    assert (job.status, job.delay_ms, job.execution_ms, job.worker_id) == (RemoteStatus.IN_PROGRESS, 5, None, "w1")
    assert job.output == {"percent": 40}
    assert [(seen.method, seen.path) for seen in server.requests] == [("GET", "/v2/ep1/status/abc-u1")]


def test_a_connection_is_used_again(serve, connect):
    server = serve(reply(200, RUNNING), reply(404), reply(500), reply(200, RUNNING))
    client = connect(server)
    client.status("ep1", "a", patient=False)
    for kind in (RemoteJobNotFound, ServerError):
        with pytest.raises(kind):
            client.status("ep1", "a", patient=False)
    client.status("ep1", "a", patient=False)
    assert [seen.connection for seen in server.requests] == [1, 1, 1, 1]


def test_a_connection_closed_while_idle_is_replaced(serve, connect):
    server = serve(reply(200, RUNNING))
    client = connect(server)
    client.status("ep1", "a", patient=False)
    server.hang_up_all()
    assert client.status("ep1", "a").status is RemoteStatus.IN_PROGRESS
    assert server.requests[-1].connection == 2


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (hang_up, AnswerLost),
        (silence, AnswerLost),
        (reply(503), ServerError),
        (reply(429), RateLimited),
    ],
)
def test_an_impatient_status_asks_once(behaviour, kind, serve, connect):
    server = serve(behaviour)
    with pytest.raises(kind) as caught:
        connect(server).status("ep1", "abc-u1", patient=False)
    assert len(server.requests) == 1
    assert (caught.value.endpoint_id, caught.value.remote_id) == ("ep1", "abc-u1")


def test_transient_errors_are_repeated(serve, connect):
    server = serve(reply(502), hang_up, reply(200, RUNNING))
    assert connect(server).status("ep1", "abc-u1").status is RemoteStatus.IN_PROGRESS
    assert len(server.requests) == 3


def test_repeating_ends_with_the_last_error(serve, connect):
    server = serve(reply(500), reply(500), reply(503, b"", {"Retry-After": "0"}))
    with pytest.raises(ServerError) as caught:
        connect(server).status("ep1", "abc-u1")
    assert caught.value.http_status == 503
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (reply(400), RequestRejected),
        (reply(401), Unauthorized),
        (reply(404), RemoteJobNotFound),
        (reply(404, {"error": "Endpoint not found"}), EndpointNotFound),
        (reply(200, {}), MalformedAnswer),
        (reply(307, b"", {"Location": "http://127.0.0.1:1/"}), MalformedAnswer),
    ],
)
def test_other_errors_are_not_repeated(behaviour, kind, serve, connect):
    server = serve(behaviour)
    with pytest.raises(kind):
        connect(server).status("ep1", "abc-u1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("operation", ["cancel", "health", "purge"])
def test_what_else_may_be_repeated_is(operation, serve, connect):
    server = serve(reply(500), reply(200, {"id": "a", "status": "CANCELLED", "jobs": {"inQueue": 2}, "removed": 3}))
    client = connect(server)
    if operation == "cancel":
        assert client.cancel("ep1", "a").status is RemoteStatus.CANCELLED
    elif operation == "health":
        assert client.health("ep1").jobs == {"inQueue": 2}
    else:
        assert client.purge("ep1") == 3
    expected = {"cancel": "POST /v2/ep1/cancel/a", "health": "GET /v2/ep1/health", "purge": "POST /v2/ep1/purge-queue"}
    assert [f"{seen.method} {seen.path}" for seen in server.requests] == [expected[operation]] * 2


@pytest.mark.parametrize("operation", ["health", "purge"])
def test_an_unknown_endpoint(operation, serve, connect):
    client = connect(serve(reply(404)))
    with pytest.raises(EndpointNotFound):
        getattr(client, operation)("ep1")


def test_retry_after_in_seconds_is_obeyed(serve, connect):
    server = serve(reply(429, b"", {"Retry-After": "0.3"}), reply(200, RUNNING))
    began = time.monotonic()
    connect(server).status("ep1", "a")
    assert time.monotonic() - began >= 0.3


def test_retry_after_as_a_date_is_read(serve, connect):
    when = datetime.now(UTC) + timedelta(seconds=100)
    server = serve(reply(429, b"", {"Retry-After": format_datetime(when, usegmt=True)}))
    with pytest.raises(RateLimited) as caught:
        connect(server).status("ep1", "a")
    assert 95 < caught.value.retry_after <= 100
    assert len(server.requests) == 1, "the date lies past the total time, so there is nothing to wait for"


def test_the_total_time_bounds_all_attempts(serve, connect):
    server = serve(reply(500), silence)
    policy = CallRetry(attempts=50, first_wait=0, max_wait=0, total=0.5)
    began = time.monotonic()
    with pytest.raises(AnswerLost):
        connect(server, call_retry=policy, timeouts=Timeouts(5, 5, 5)).status("ep1", "a")
    assert 0.4 < time.monotonic() - began < 2
    assert len(server.requests) == 2, "the second attempt gets what the first left of the time"


def test_silence_is_bounded_by_a_total_below_the_read_timeout(serve, connect):
    began = time.monotonic()
    with pytest.raises(AnswerLost):
        connect(serve(silence), timeouts=Timeouts(5, 5, 0.3)).status("ep1", "a", patient=False)
    assert 0.2 < time.monotonic() - began < 2


def test_a_slow_body_is_bounded_by_the_total(serve, connect):
    server = serve(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
    began = time.monotonic()
    with pytest.raises(AnswerLost):
        connect(server, timeouts=Timeouts(1, 1, 0.5)).status("ep1", "a", patient=False)
    assert 0.4 < time.monotonic() - began < 1


def test_an_announced_large_body_is_not_read(serve, connect):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"
    server = serve(drip(head), reply(200, RUNNING))
    client = connect(server)
    job = client.status("ep1", "abc-u1", max_bytes=1000)
    assert (job.remote_id, job.truncated, job.status, job.output) == ("abc-u1", True, RemoteStatus.OTHER, None)
    client.status("ep1", "abc-u1")
    assert server.requests[-1].connection == 2, "a half-read connection is closed"


def test_a_large_body_without_a_length_is_left(serve, connect):
    server = serve(raw(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 2000))
    assert connect(server).status("ep1", "abc-u1", max_bytes=1000).truncated


def test_a_body_of_exactly_the_limit_is_read(serve, connect):
    body = b'{"id":"a","status":"COMPLETED"}'
    job = connect(serve(reply(200, body))).status("ep1", "a", max_bytes=len(body))
    assert (job.status, job.truncated) == (RemoteStatus.COMPLETED, False)
    assert connect(serve(reply(200, body))).status("ep1", "a", max_bytes=len(body) - 1).truncated


def test_a_large_body_is_read_when_asked_for(serve, connect):
    output = "x" * 3_000_000
    server = serve(reply(200, {"id": "a", "status": "COMPLETED", "output": output}))
    assert connect(server).status("ep1", "a").output == output


def test_a_chunked_body_is_read(serve, connect):
    body = b'1f\r\n{"id":"a","status":"COMPLETED"}\r\n0\r\n\r\n'
    server = serve(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body))
    assert connect(server).status("ep1", "a").status is RemoteStatus.COMPLETED


def test_ids_are_one_segment_of_the_path(serve, connect):
    server = serve(reply(200, RUNNING))
    client = connect(server)
    client.status("ep1", "a/../b?ttl=1#é")
    assert server.requests[0].path == "/v2/ep1/status/a%2F..%2Fb%3Fttl%3D1%23%C3%A9"
    for endpoint_id, remote_id, field in (("", "a", "endpoint_id"), ("..", "a", "endpoint_id"), ("e", "", "remote_id")):
        with pytest.raises(InvalidJob) as caught:
            client.status(endpoint_id, remote_id)
        assert caught.value.field == field
    assert len(server.requests) == 1


def test_64_at_a_time_get_their_own_answers(serve, connect):
    def echo(sock: socket.socket, seen: Seen) -> bool:
        return reply(200, {"id": seen.path.rsplit("/", 1)[1], "status": "IN_QUEUE"})(sock, seen)

    server = serve(echo)
    client = connect(server, timeouts=Timeouts(5, 10, 20))
    ids = [f"job-{n}" for n in range(640)]
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda i: client.status("ep1", i, patient=False).remote_id, ids))
    assert answers == ids
    assert server.connections <= 64


def test_a_forked_child_does_not_share_connections(serve, connect):
    server: RawServer = serve(reply(200, RUNNING))
    client = connect(server)
    client.status("ep1", "a")
    child = os.fork()
    if child == 0:
        try:
            client.status("ep1", "a", patient=False)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.status("ep1", "a")
    assert [seen.connection for seen in server.requests] == [1, 2, 1]


def test_stream_yields_each_output_once_until_the_end(serve, connect):
    server = serve(
        reply(200, {"status": "IN_QUEUE", "stream": []}),
        reply(429),
        reply(200, {"status": "IN_PROGRESS", "stream": [{"output": 1}, {"output": {"n": 2}}]}),
        reply(200, {"status": "COMPLETED", "stream": [{"output": 3}]}),
        reply(200, {"status": "COMPLETED", "stream": []}),
    )
    assert list(connect(server).stream("ep1", "a", pause_s=0)) == [1, {"n": 2}, 3]
    assert {seen.path for seen in server.requests} == {"/v2/ep1/stream/a"}
    assert len(server.requests) == 5


@pytest.mark.parametrize("end", ["CANCELLED", "FAILED", "TIMED_OUT", "COMPLETED"])
def test_stream_ends_with_any_end(end, serve, connect):
    assert list(connect(serve(reply(200, {"status": end}))).stream("ep1", "a", max_s=5)) == []


def test_stream_of_a_job_that_vanishes(serve, connect):
    ended = serve(reply(200, {"status": "COMPLETED", "stream": [{"output": 1}]}), reply(404))
    assert list(connect(ended).stream("ep1", "a")) == [1]
    with pytest.raises(RemoteJobNotFound):
        list(connect(serve(reply(404))).stream("ep1", "a"))


def test_stream_is_bounded(serve, connect):
    server = serve(reply(200, {"status": "IN_PROGRESS", "stream": []}))
    with pytest.raises(WaitTimeout):
        list(connect(server).stream("ep1", "a", max_s=0.2, pause_s=0.05))
    assert 2 <= len(server.requests) <= 5


def test_a_lost_read_of_a_stream_is_not_repeated(serve, connect):
    server = serve(hang_up, reply(200, {"status": "COMPLETED"}))
    with pytest.raises(AnswerLost):
        list(connect(server).stream("ep1", "a"))
    assert len(server.requests) == 1


def test_stream_refuses_a_wrong_id_at_once(serve, connect):
    with pytest.raises(InvalidJob):
        connect(serve(hang_up)).stream("ep1", "")


def test_nobody_listens(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotConnected):
        connect(f"http://127.0.0.1:{port}/v2").status("ep1", "a")
