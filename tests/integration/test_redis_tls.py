"""rediss:// as an address: broker, results and store over TLS, behind a certificate that is checked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from ryla_tasks.celery_defaults import celery_defaults
from ryla_tasks.embedded import RedisServer
from ryla_tasks.embedded.ports import free_port
from ryla_tasks.settings import Settings
from tests.support.chaos.proxy import Proxy
from tests.support.fleet import Fleet, eventually
from tests.support.tls import Certificate, certify
from tests.support.web import enqueue, look


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def terminated(whole_fleet: Fleet, certificate: Certificate) -> Iterator[int]:
    """The port of the end of TLS before the fleet's Redis, as many a managed Redis has it."""
    with Proxy(whole_fleet.redis.port, certificate.for_servers()) as proxy:
        yield proxy.port


@pytest.fixture
def native(certificate: Certificate) -> Iterator[int]:
    """The port of a Redis that speaks TLS itself. The embedded one is built without it."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        pytest.skip("there is no redis-server on PATH: apt-get install redis-server")
    port = free_port()
    files = {
        "tls-cert-file": certificate.chain,
        "tls-key-file": certificate.key,
        "tls-ca-cert-file": certificate.authority,
    }
    config = {"tls-port": str(port), "tls-auth-clients": "no", **{name: str(path) for name, path in files.items()}}
    with RedisServer(binary=binary, config=config):
        yield port


def settings(port: int, authority: Path) -> dict[str, str]:
    return {"RYLA_REDIS_URL": f"rediss://127.0.0.1:{port}/0", "RYLA_REDIS_TLS_CA": str(authority)}


@pytest.mark.parametrize("server", ["terminated", "native"])
def test_jobs_go_through_over_tls_with_a_checked_certificate(
    fleet: Fleet, certificate: Certificate, server: str, request: pytest.FixtureRequest
) -> None:
    """Enqueued, carried out and read over TLS alone; each message goes with its record, as without TLS."""
    tls = settings(request.getfixturevalue(server), certificate.authority)
    ids = enqueue(fleet, 3, 0.2, **tls)
    worker = fleet.worker("--concurrency", "4", **tls)
    eventually(lambda: worker.text.count("job.completed") == 3, timeout=30, what="all completed")
    found = eventually(lambda: (now := look(fleet, ids, **tls))[-1]["state"] == "SUCCESS" and now, every=0.2)
    assert [(one["state"], one["n"]) for one in found] == [("SUCCESS", number) for number in range(3)]
    counters = fleet.endpoint("echo").counters()
    assert (counters.accepted, counters.duplicates) == (3, 0)
    with redis.Redis(port=fleet.redis.port) as client:
        assert (client.zcard("ryla:idx:all") == 3) == (server == "terminated")


def app_of(port: int, authority: Path, verify: str) -> Celery:
    """A Celery app with our configuration for these settings."""
    wish = {"redis_url": f"rediss://127.0.0.1:{port}/0", "redis_tls_ca": authority, "redis_tls_verify": verify}
    app = Celery("tls", set_as_current=False)
    app.conf.update(celery_defaults(Settings(**wish)))
    return app


@pytest.mark.parametrize("verify", ["required", "none"])
def test_an_authority_that_is_not_known_is_not_trusted(terminated: int, tmp_path: Path, verify: str) -> None:
    """Neither by the broker's connections nor by the store's; unless the settings say so."""
    app = app_of(terminated, certify(tmp_path).authority, verify)
    with app.connection_for_write() as broker:
        if verify == "none":
            assert app.backend.client.ping()
            broker.ensure_connection(max_retries=1)
            return
        for connect in (app.backend.client.ping, partial(broker.ensure_connection, max_retries=1)):
            with pytest.raises((redis.ConnectionError, OperationalError), match="certificate verify failed"):
                connect()
