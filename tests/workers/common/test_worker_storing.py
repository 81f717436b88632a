"""Results of GPU workers in an S3-compatible store."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from workers.common.failures import JobFailure, answer_of
from workers.common.storing import Store, StoreFailed

KEYS = {"BUCKET_ACCESS_KEY_ID": "id", "BUCKET_SECRET_ACCESS_KEY": "hidden"}


def test_the_environment_names_the_store() -> None:
    assert Store.from_env({}) is None
    named = Store.from_env({"BUCKET_ENDPOINT_URL": "https://s3.example.com", "BUCKET_NAME": "b", **KEYS})
    assert named is not None
    assert (named.endpoint, named.bucket, named.prefix) == ("https://s3.example.com", "b", "")
    in_path = Store.from_env(
        {"BUCKET_ENDPOINT_URL": "https://s3.example.com/b/results/", **KEYS, "BUCKET_URL_TTL_S": "99999999"}
    )
    assert in_path is not None
    assert (in_path.endpoint, in_path.bucket, in_path.prefix) == ("https://s3.example.com", "b", "results")
    assert in_path.url_ttl_s == 7 * 86_400
    assert "hidden" not in repr(in_path)
    for env in ({}, KEYS, {"BUCKET_NAME": "b"}):
        with pytest.raises(ValueError, match="BUCKET"):
            Store.from_env({"BUCKET_ENDPOINT_URL": "https://s3.example.com", **env})


def test_a_file_is_stored_and_its_url_works(tmp_path: Path) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        named = {"BUCKET_NAME": "worker-results", "BUCKET_PREFIX": "p/", **KEYS}
        env = {"BUCKET_ENDPOINT_URL": f"http://{host}:{port}", **named}
        store = Store.from_env(env)
        assert store is not None
        (tmp_path / "a.png").write_bytes(b"png")
        with pytest.raises(StoreFailed):
            asyncio.run(store.put(tmp_path / "a.png", "j/a.png", "image/png"))
        store._connected().create_bucket(Bucket="worker-results")
        url = asyncio.run(store.put(tmp_path / "a.png", "j/a.png", "image/png"))
        assert "/worker-results/p/j/a.png?" in url
        with urllib.request.urlopen(url) as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"png", "image/png")
    finally:
        server.stop()


def test_an_error_goes_back_as_a_sentence_a_code_and_json() -> None:
    failure = JobFailure("no_face", "No face.", {"image": "a.png"}, refresh=True)
    assert answer_of(failure) == {
        "error": "No face.",
        "code": "no_face",
        "details": {"image": "a.png"},
        "refresh_worker": True,
    }
    assert answer_of(OSError(28, "No space left on device"))["details"] == {
        "error_type": "OSError",
        "error_message": "[Errno 28] No space left on device",
    }
