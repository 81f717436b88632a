"""TLS, proxies and settings of the client."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr
from raw_server import drip, hang_up, raw, reply

from ryla_tasks.errors import AnswerLost, ConfigurationError, NotConnected
from ryla_tasks.providers.base import Provider, was_not_accepted
from ryla_tasks.providers.runpod import CallRetry, RunPod, Timeouts

ACCEPTED = {"id": "abc-u1", "status": "IN_QUEUE"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls_with_a_bundle_of_ones_own(serve, connect, tls, certificate):
    server = serve(reply(200, ACCEPTED), tls=tls)
    client = connect(server, verify=str(certificate), timeouts=Timeouts(2, 5, 10))
    assert client.run("ep1", {"image": "x" * 1_000_000}).remote_id == "abc-u1"
    client.status("ep1", "a")
    client.status("ep1", "a")
    assert [seen.connection for seen in server.requests] == [1, 2, 2]


def test_a_certificate_that_nobody_vouches_for(serve, connect, tls):
    server = serve(reply(200, ACCEPTED), tls=tls)
    with pytest.raises(NotConnected, match="CERTIFICATE_VERIFY_FAILED") as caught:
        connect(server).run("ep1", {"n": 1})
    assert was_not_accepted(caught.value)
    assert server.requests == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off(serve, connect, tls):
    assert connect(serve(reply(200, ACCEPTED), tls=tls), verify=False).run("ep1", {"n": 1})


@pytest.mark.parametrize(
    "behaviour",
    [hang_up, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), drip(b"")],
    ids=["none", "half", "slow"],
)
def test_an_answer_lost_under_tls(behaviour, serve, connect, tls, certificate):
    server = serve(behaviour, tls=tls)
    with pytest.raises(AnswerLost) as caught:
        connect(server, verify=str(certificate)).run("ep1", {"n": 1})
    assert not was_not_accepted(caught.value)
    assert len(server.requests) == 1


def test_a_server_that_does_not_speak_tls(serve, connect):
    server = serve(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(NotConnected):
        connect(server.url.replace("http:", "https:")).run("ep1", {"n": 1})


def test_a_handshake_that_never_ends(connect):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v2"
        with pytest.raises(NotConnected):
            connect(url, timeouts=Timeouts(0.2, 5, 5)).run("ep1", {"n": 1})


def test_a_forwarding_proxy_gets_the_whole_url(serve, connect):
    proxy = serve(reply(200, ACCEPTED))
    client = connect("http://runpod.invalid/v2", proxies={"http": f"http://me:pw@127.0.0.1:{proxy.port}"})
    assert client.run("ep1", {"n": 1}).remote_id == "abc-u1"
    (seen,) = proxy.requests
    assert seen.path == "http://runpod.invalid/v2/ep1/run"
    assert seen.headers["proxy-authorization"].startswith("Basic ")


def test_a_proxy_that_will_not_connect_got_nothing_of_the_request(serve, connect, key):
    proxy = serve(reply(407))
    client = connect("https://runpod.invalid/v2", proxies={"https": f"http://127.0.0.1:{proxy.port}"})
    with pytest.raises(NotConnected) as caught:
        client.run("ep1", {"n": 1})
    assert was_not_accepted(caught.value)
    (seen,) = proxy.requests
    assert (seen.method, seen.body) == ("CONNECT", b"")
    assert key not in str(seen.headers)


def test_the_environment_is_heard_only_when_asked(serve, connect, monkeypatch):
    proxy, server = serve(reply(200, ACCEPTED)), serve(reply(200, ACCEPTED))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    connect(server).run("ep1", {"n": 1})
    assert (len(server.requests), len(proxy.requests)) == (1, 0)
    connect(server, trust_env=True).run("ep1", {"n": 1})
    assert (len(server.requests), len(proxy.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"api_key": ""}, "RUNPOD_API_KEY"),
        ({"api_key": "two words"}, "RUNPOD_API_KEY"),
        ({"api_key": "line-end\n"}, "RUNPOD_API_KEY"),
        ({"base_url": "api.runpod.ai/v2"}, "base_url"),
        ({"base_url": "https://user:pw@api.runpod.ai/v2"}, "base_url"),
        ({"verify": os.devnull}, "verify"),
        ({"verify": "/no/such/bundle"}, "verify"),
        ({"proxies": {"https": "socks5://127.0.0.1:1"}}, "proxies"),
    ],
)
def test_a_wrong_setting_is_named_and_not_quoted(options, setting):
    with pytest.raises(ConfigurationError) as caught:
        RunPod(**{"api_key": "k", **options})
    assert caught.value.setting == setting
    for secret in ("pw", "words", "line-end"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "make", [lambda: Timeouts(total=0), lambda: CallRetry(attempts=0), lambda: CallRetry(total=-1)]
)
def test_a_wrong_time_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


def test_the_key_does_not_show(key):
    provider: Provider = RunPod(SecretStr(key), account="main")
    assert repr(provider) == "RunPod(account='main', base_url='https://api.runpod.ai/v2')"
    assert key not in repr(vars(provider))
