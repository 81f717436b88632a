"""Downloads from real servers on the loopback: plain, TLS, slow, endless, redirecting."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ryla_tasks.artifacts import fetch_url
from ryla_tasks.artifacts.guard import AddressRules, ForbiddenAddress
from ryla_tasks.errors import AnswerLost, NotConnected, OutputInvalid, RateLimited, RylaError, ServerError

SECRET = "?X-Amz-Signature=topsecret"
BODY = b"\x89PNG" + b"x" * 200_000


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[str]
    stop: threading.Event
    redirect_to: str

    def do_GET(self) -> None:
        self.seen.append(self.path)
        path = self.path.partition("?")[0].strip("/")
        if path.isdigit():
            self.send_response(int(path))
            if path.startswith("3"):
                self.send_header("Location", self.redirect_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            getattr(self, path)()

    def whole(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "Image/PNG; charset=x")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY) + 1))
        self.end_headers()
        self.wfile.write(BODY)
        self.close_connection = True

    def endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while not self.stop.is_set():
            self.wfile.write(b"x" * 65536)

    def trickle(self) -> None:
        """A byte now and then, and no length: each read succeeds, and the connection's end looks like the body's."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while not self.stop.wait(0.05):
            self.wfile.write(b"x")

    def silent(self) -> None:
        self.stop.wait()

    def log_message(self, *args: object) -> None:
        return


class Server:
    """One server with its own handler class, so that tests see only their own requests."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.seen: list[str] = []
        self.stop = threading.Event()
        self.handler = type("OwnHandler", (Handler,), {"seen": self.seen, "stop": self.stop, "redirect_to": "/whole"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign] - clients that hang up
        self.port = self._server.server_address[1]
        self.scheme = "http"
        if context:
            self.scheme = "https"
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{path}{SECRET}"

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    plain = Server()
    yield plain
    plain.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure = Server(context)
    yield secure
    secure.close()


def refused(call: Callable[[], object], kind: type[RylaError], says: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert says in str(caught.value.args)
    error: BaseException | None = caught.value
    while error is not None:
        assert "topsecret" not in f"{error!r} {error.args}"
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__


def test_plain_http_works_on_the_loopback_when_allowed(server: Server) -> None:
    got = fetch_url(server.url("whole"), allow_http_loopback=True)
    assert (got.data, got.content_type) == (BODY, "image/png")


def test_https_works_where_private_addresses_are_allowed(tls_server: Server, certificate: Path) -> None:
    got = fetch_url(tls_server.url("whole"), allow_private=True, ca_bundle=str(certificate))
    assert got.data == BODY


def test_an_untrusted_certificate_is_no_connection(tls_server: Server) -> None:
    refused(lambda: fetch_url(tls_server.url("whole"), allow_private=True), NotConnected, "no connection")
    assert tls_server.seen == []


@pytest.mark.parametrize("allow_private", [False, True])
def test_plain_http_is_refused_otherwise(server: Server, allow_private: bool) -> None:
    refused(lambda: fetch_url(server.url("whole"), allow_private=allow_private), OutputInvalid, "not https")
    assert server.seen == []


def test_the_loopback_is_refused_otherwise(tls_server: Server, certificate: Path) -> None:
    bundle = str(certificate)
    refused(lambda: fetch_url(tls_server.url("whole"), ca_bundle=bundle), OutputInvalid, "may not come from")
    assert tls_server.seen == []


def test_a_name_that_resolves_differently_the_second_time_gains_nothing(
    tls_server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_lookup, answers = socket.getaddrinfo, ["8.8.8.8", "127.0.0.1"]

    def lookup(host: object, port: object, *args: object, **more: object) -> object:
        return true_lookup(answers.pop(0), port, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    url = f"https://rebound.example:{tls_server.port}/whole{SECRET}"
    refused(lambda: fetch_url(url, ca_bundle=str(certificate)), OutputInvalid, "may not come from")
    assert answers == []
    assert tls_server.seen == []


def test_redirects_are_followed_and_checked_again(server: Server) -> None:
    assert fetch_url(server.url("302"), allow_http_loopback=True).data == BODY
    for target, says in [
        ("https://10.0.0.1/x", "https://10.0.0.1: an address"),
        ("http://169.254.169.254/latest", "http://169.254.169.254: an address"),
        ("file:///etc/passwd", "not a plain https URL"),
        ("/302", "redirects"),
        ("http://[", "URL"),
    ]:
        server.handler.redirect_to = target
        refused(lambda: fetch_url(server.url("302"), allow_http_loopback=True), OutputInvalid, says)


def test_a_redirect_from_https_to_http_is_refused(tls_server: Server, server: Server, certificate: Path) -> None:
    tls_server.handler.redirect_to = server.url("whole")
    call = lambda: fetch_url(tls_server.url("307"), allow_http_loopback=True, ca_bundle=str(certificate))  # noqa: E731
    refused(call, OutputInvalid, "away from https")
    assert server.seen == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, OutputInvalid), (404, OutputInvalid), (204, OutputInvalid), (206, OutputInvalid), (429, RateLimited),
     (500, ServerError), (503, ServerError), (408, ServerError)],
)  # fmt: skip
def test_statuses(server: Server, status: int, kind: type[RylaError]) -> None:
    refused(lambda: fetch_url(server.url(str(status)), allow_http_loopback=True), kind, f"HTTP {status}")


@pytest.mark.parametrize(("path", "says"), [("whole", "200004 bytes, 100000 allowed"), ("endless", "more than")])
def test_the_size_is_bounded(server: Server, path: str, says: str) -> None:
    refused(lambda: fetch_url(server.url(path), allow_http_loopback=True, max_bytes=100_000), OutputInvalid, says)
    assert len(fetch_url(server.url("whole"), allow_http_loopback=True, max_bytes=len(BODY)).data) == len(BODY)


@pytest.mark.parametrize("path", ["trickle", "silent"])
def test_the_whole_time_is_bounded(server: Server, path: str) -> None:
    began = time.monotonic()
    refused(lambda: fetch_url(server.url(path), allow_http_loopback=True, timeout_s=0.4), AnswerLost, "127.0.0.1")
    assert 0.3 < time.monotonic() - began < 5


def test_a_tls_download_is_bounded_in_time_too(tls_server: Server, certificate: Path) -> None:
    call = lambda: fetch_url(  # noqa: E731
        tls_server.url("trickle"), allow_private=True, ca_bundle=str(certificate), timeout_s=0.4
    )
    refused(call, AnswerLost, "127.0.0.1")


def test_a_body_cut_short_is_lost(server: Server) -> None:
    refused(lambda: fetch_url(server.url("short"), allow_http_loopback=True), AnswerLost, "broke off")


def test_nothing_listening_may_be_tried_again() -> None:
    gone = Server()
    gone.close()
    refused(lambda: fetch_url(gone.url("whole"), allow_http_loopback=True), NotConnected, "127.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://h/x",
        "file:///etc/passwd",
        "https://",
        "https://user:topsecret@h/",
        "https://h:99999/",
        "https://[/",
    ],
)
def test_what_is_no_https_url_is_refused(url: str) -> None:
    refused(lambda: fetch_url(url), OutputInvalid, "URL")


@pytest.mark.parametrize(
    ("address", "private_ok"),
    [
        ("10.1.2.3", True),
        ("192.168.0.1", True),
        ("100.64.0.1", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::a00:1", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", False),
        ("fe80::1%eth0", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_addresses_that_are_not_public(address: str, private_ok: bool) -> None:
    with pytest.raises(ForbiddenAddress):
        AddressRules().check(address, "https")
    allowing = AddressRules(allow_private=True)
    if private_ok:
        allowing.check(address, "https")
    else:
        with pytest.raises(ForbiddenAddress):
            allowing.check(address, "https")
    with pytest.raises(ForbiddenAddress):
        allowing.check(address, "http")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    AddressRules().check(address, "https")
    with pytest.raises(ForbiddenAddress):
        AddressRules(allow_http_loopback=True).check(address, "http")
