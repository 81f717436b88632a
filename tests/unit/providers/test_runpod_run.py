"""A submit is sent once, on its own connection, and its failures are told apart."""

from __future__ import annotations

import json
import socket
import threading
import traceback

import pytest
from raw_server import RawServer, drip, hang_up, raw, reply, silence

from ryla_tasks.errors import (
    AnswerLost,
    EndpointNotFound,
    InvalidJob,
    MalformedAnswer,
    NotConnected,
    PayloadTooLarge,
    RateLimited,
    RemoteJobNotFound,
    RequestRejected,
    ServerError,
    Unauthorized,
)
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.providers.base import Policy, was_not_accepted
from ryla_tasks.providers.runpod import Timeouts

ACCEPTED = {"id": "abc-u1", "status": "IN_QUEUE"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

NOT_TAKEN = [
    pytest.param(reply(400, {"error": "bad"}), RequestRejected, id="400"),
    pytest.param(reply(413), RequestRejected, id="413"),
    pytest.param(reply(400, b"{", length=50), RequestRejected, id="400 with half a body"),
    pytest.param(reply(401, {"error": "no"}), Unauthorized, id="401"),
    pytest.param(reply(403), Unauthorized, id="403"),
    pytest.param(reply(404, {"error": "not found"}), EndpointNotFound, id="404"),
    pytest.param(reply(429, b"", {"Retry-After": "7"}), RateLimited, id="429"),
    pytest.param(drip(b"HTTP/1.1 429 X\r\nContent-Length: 99\r\n\r\n"), RateLimited, id="429 with a slow body"),
]
NOT_KNOWN = [
    pytest.param(hang_up, AnswerLost, id="hang-up"),
    pytest.param(raw(b"HTTP/1.1 20"), AnswerLost, id="half a status line"),
    pytest.param(raw(b"\x00\xff not http\r\n\r\n"), AnswerLost, id="not HTTP"),
    pytest.param(silence, AnswerLost, id="silence"),
    pytest.param(drip(b""), AnswerLost, id="slow status line"),
    pytest.param(drip(HEAD + b"X-Slow: "), AnswerLost, id="slow header"),
    pytest.param(drip(HEAD + b"Content-Length: 999\r\n\r\n"), AnswerLost, id="slow body"),
    pytest.param(drip(HEAD + b"\r\n"), AnswerLost, id="slow body without end"),
    pytest.param(reply(200, b'{"id":"ab', length=99), AnswerLost, id="half a body"),
    pytest.param(raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{"), AnswerLost, id="half a chunk"),
    pytest.param(reply(500), ServerError, id="500"),
    pytest.param(reply(502, b"<html>Bad gateway</html>"), ServerError, id="502"),
    pytest.param(reply(200, b"<html>"), MalformedAnswer, id="HTML"),
    pytest.param(reply(200, b""), MalformedAnswer, id="nothing"),
    pytest.param(reply(204), MalformedAnswer, id="204"),
    pytest.param(reply(200, [1]), MalformedAnswer, id="array"),
    pytest.param(reply(200, {"status": "IN_QUEUE"}), MalformedAnswer, id="no id"),
    pytest.param(reply(200, {"id": "", "status": "IN_QUEUE"}), MalformedAnswer, id="empty id"),
]


@pytest.mark.parametrize(("behaviour", "kind"), [*NOT_TAKEN, *NOT_KNOWN])
def test_a_failed_submit_is_sent_once_and_classified(behaviour, kind, serve, connect, key, caplog):
    caplog.set_level("DEBUG")
    server = serve(behaviour)
    client = connect(server)
    with pytest.raises(kind) as caught:
        client.run("ep1", {"prompt": "a fox"})
    assert type(caught.value) is kind
    assert [seen.path for seen in server.requests] == ["/v2/ep1/run"]
    taken_for_sure_not = kind in {case.values[1] for case in NOT_TAKEN}
    assert was_not_accepted(caught.value) is taken_for_sure_not
    assert caught.value.endpoint_id == "ep1"
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(client) + caplog.text
    assert key not in shown


def test_a_submit_that_is_taken(serve, connect, key):
    server = serve(reply(200, ACCEPTED))
    policy = Policy(execution_timeout=60_000, ttl=120_000, low_priority=True)
    taken = connect(server).run("ep1", {"prompt": "Füchse 🦊"}, policy=policy, webhook="https://app.example/hook?t=1")
    assert (taken.remote_id, taken.status) == ("abc-u1", RemoteStatus.IN_QUEUE)
    (seen,) = server.requests
    assert seen.method == "POST"
    assert seen.headers["authorization"] == f"Bearer {key}"
    assert seen.headers["content-type"] == "application/json"
    assert json.loads(seen.body) == {
        "input": {"prompt": "Füchse 🦊"},
        "policy": {"executionTimeout": 60_000, "ttl": 120_000, "lowPriority": True},
        "webhook": "https://app.example/hook?t=1",
    }


def test_every_submit_has_a_connection_of_its_own(serve, connect):
    server = serve(reply(200, ACCEPTED))
    client = connect(server)
    client.status("ep1", "a")
    client.run("ep1", {"n": 1})
    client.run("ep1", {"n": 2})
    client.retry("ep1", "a")
    client.status("ep1", "a")
    assert [seen.connection for seen in server.requests] == [1, 2, 3, 4, 1]


def test_a_redirect_is_not_followed(serve, connect):
    elsewhere = serve(reply(200, ACCEPTED))
    for status in (301, 302, 303, 307, 308):
        server = serve(reply(status, b"", {"Location": f"{elsewhere.url}/ep1/run"}))
        with pytest.raises(MalformedAnswer, match="redirect") as caught:
            connect(server).run("ep1", {"n": 1})
        assert len(server.requests) == 1
        assert not was_not_accepted(caught.value)
    assert elsewhere.requests == []


def test_a_port_where_nobody_listens(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotConnected) as caught:
        connect(f"http://127.0.0.1:{port}/v2").run("ep1", {"n": 1})
    assert was_not_accepted(caught.value)


def test_a_name_that_does_not_resolve(connect):
    with pytest.raises(NotConnected) as caught:
        connect("http://no-such-host.invalid/v2").run("ep1", {"n": 1})
    assert was_not_accepted(caught.value)


def test_a_server_that_does_not_accept(connect):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):  # more than the backlog holds: the next connection hangs
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            waiting.append(sock)
        client = connect(
            f"http://127.0.0.1:{listener.getsockname()[1]}/v2", timeouts=Timeouts(connect=0.2, read=5, total=5)
        )
        with pytest.raises(NotConnected) as caught:
            client.run("ep1", {"n": 1})
        for sock in waiting:
            sock.close()
    assert was_not_accepted(caught.value)


def test_a_closed_client_sends_nothing(serve, connect):
    server = serve(reply(200, ACCEPTED))
    client = connect(server)
    client.close()
    with pytest.raises(NotConnected):
        client.status("ep1", "a", patient=False)
    with pytest.raises(NotConnected):
        client.run("ep1", {"n": 1})
    assert server.requests == []


def test_the_retry_of_a_job_is_sent_once(serve, connect):
    server = serve(hang_up)
    with pytest.raises(AnswerLost):
        connect(server).retry("ep1", "abc-u1")
    assert [seen.path for seen in server.requests] == ["/v2/ep1/retry/abc-u1"]
    assert server.requests[0].method == "POST"
    unknown = serve(reply(404, {"error": "job not found"}))
    with pytest.raises(RemoteJobNotFound):
        connect(unknown).retry("ep1", "abc-u1")


def test_a_body_larger_than_the_socket_holds_is_sent_whole(serve, connect):
    server = serve(reply(200, ACCEPTED))
    big = {"image": "x" * (9 * 1024 * 1024)}
    client = connect(server, timeouts=Timeouts(connect=5, read=10, total=20))
    assert client.run("ep1", big).remote_id == "abc-u1"
    assert json.loads(server.requests[0].body)["input"] == big


def test_sending_may_take_longer_than_connecting(connect):
    answer = json.dumps(ACCEPTED).encode()

    def read_late(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as file:
            threading.Event().wait(0.5)  # the sender's buffers are full by then
            while (line := file.readline().lower()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            file.read(length)
            sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(answer) + answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=read_late, args=(listener,), daemon=True)
        thread.start()
        client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}/v2", timeouts=Timeouts(0.2, 10, 10))
        assert client.run("ep1", {"image": "x" * (9 * 1024 * 1024)}).remote_id == "abc-u1"
        thread.join()


@pytest.mark.parametrize(
    ("job_input", "kind", "field"),
    [
        ({}, InvalidJob, "input"),
        ([1], InvalidJob, "input"),
        (None, InvalidJob, "input"),
        ({"x": float("nan")}, InvalidJob, "input"),
        ({"x": object()}, InvalidJob, "input"),
        ({"x": "\ud800"}, InvalidJob, "input"),
        ({"x": "y" * 1000}, PayloadTooLarge, "input"),
        ({"x": "é" * 480}, PayloadTooLarge, "input"),
    ],
)
def test_a_wrong_input_is_refused_before_anything_is_sent(job_input, kind, field, serve, connect):
    server = serve(reply(200, ACCEPTED))
    with pytest.raises(kind) as caught:
        connect(server, max_payload_bytes=900).run("ep1", job_input)
    assert type(caught.value) is kind
    assert caught.value.field == field
    assert was_not_accepted(caught.value)
    assert server.connections == 0


def test_the_limit_is_the_bytes_that_are_sent(serve, connect):
    server: RawServer = serve(reply(200, ACCEPTED))
    size = len(json.dumps({"input": {"x": ""}}, separators=(",", ":")))
    client = connect(server, max_payload_bytes=100)
    client.run("ep1", {"x": "y" * (100 - size)})
    with pytest.raises(PayloadTooLarge):
        client.run("ep1", {"x": "y" * (101 - size)})
    assert [len(seen.body) for seen in server.requests] == [100]


@pytest.mark.parametrize("webhook", ["", "ftp://x/secret", "app.example/secret"])
def test_a_wrong_webhook_is_not_quoted(webhook, serve, connect):
    server = serve(reply(200, ACCEPTED))
    with pytest.raises(InvalidJob) as caught:
        connect(server).run("ep1", {"x": 1}, webhook=webhook)
    assert caught.value.field == "webhook"
    assert "secret" not in str(caught.value)
    assert server.connections == 0


def test_what_the_server_quotes_of_the_request_is_hidden(serve, connect, key):
    prompt, hook = 'a very private prompt, Füchse "and" more words', "https://app.example/hook/tok_0123456789"

    def echo(sock: socket.socket, seen) -> bool:
        said = {"error": f"bad auth {seen.headers['authorization']}", "you_sent": json.loads(seen.body)}
        return reply(400, said)(sock, seen)

    server = serve(echo)
    with pytest.raises(RequestRejected) as caught:
        connect(server).run("ep1", {"prompt": prompt, "n": [prompt[:20]]}, webhook=hook)
    shown = str(caught.value) + caught.value.body
    for secret in (key, hook, "private", "tok_"):
        assert secret not in shown
    assert "bad auth Bearer [hidden]" in shown
    assert len(caught.value.body) <= 500
