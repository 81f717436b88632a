from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
import requests
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from ryla_tasks.artifacts import (
    Artifact,
    ArtifactError,
    ArtifactNotFound,
    ArtifactStore,
    ArtifactStoreUnavailable,
    InvalidArtifactKey,
    LocalStore,
    open_store,
)
from ryla_tasks.errors import ConfigurationError

KEY = "jobs/j1/00-ab.png"


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    requests.put(f"{endpoint}/bucket", timeout=10).raise_for_status()
    yield endpoint
    server.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture(params=["file", "path", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "file":
        return open_store((tmp_path / "a b").as_uri())
    if request.param == "path":
        return open_store(str(tmp_path / "artifacts"))
    request.getfixturevalue("credentials")
    endpoint = request.getfixturevalue("s3_endpoint")
    return open_store(f"s3://bucket/{tmp_path.name}/x?endpoint_url={quote(endpoint)}&region=us-east-1")


def test_put_get_open_delete(store: ArtifactStore) -> None:
    assert not store.exists(KEY)
    artifact = store.put(KEY, b"\x89PNG", "image/png")
    assert artifact == Artifact(KEY, "image/png", 4, hashlib.sha256(b"\x89PNG").hexdigest(), "00-ab.png")
    assert store.exists(KEY)
    assert store.get(KEY) == b"\x89PNG"
    with store.open(KEY) as stream:
        assert stream.read() == b"\x89PNG"
    assert store.put(KEY, b"\x89PNG", "image/png") == artifact
    store.put(KEY, b"other", "image/png")
    assert store.get(KEY) == b"other"
    store.delete(KEY)
    store.delete(KEY)
    assert not store.exists(KEY)


def test_what_is_not_there_is_not_found(store: ArtifactStore) -> None:
    for read in (store.get, store.open):
        with pytest.raises(ArtifactNotFound, match=r"there is no artifact 'jobs/none\.png'"):
            read("jobs/none.png")


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", "./a", "a/.hidden", "a\\b", "a\nb", "a\0b", "é", "a" * 513],
)
def test_keys_that_could_lead_elsewhere_are_refused(store: ArtifactStore, key: str) -> None:
    for call in (store.get, store.open, store.exists, store.url, store.delete):
        with pytest.raises(InvalidArtifactKey):
            call(key)
    with pytest.raises(InvalidArtifactKey):
        store.put(key, b"x", "image/png")


def test_an_artifact_goes_through_json() -> None:
    artifact = Artifact("k", "image/png", 3, "00", "f.png")
    assert Artifact.from_json({**artifact.to_json(), "later": 1}) == artifact


def test_local_url_names_the_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "a b")
    store.put(KEY, b"x", "image/png")
    url = urlsplit(store.url(KEY))
    assert url.scheme == "file"
    assert Path(unquote(url.path)).read_bytes() == b"x"


def test_a_repeated_local_put_does_not_write(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put(KEY, b"x", "image/png")
    before = (tmp_path / KEY).stat()
    store.put(KEY, b"x", "image/png")
    after = (tmp_path / KEY).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_reader_never_sees_half_a_local_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    contents = [bytes([n]) * 300_000 for n in range(20)]
    store.put(KEY, contents[0], "image/png")
    done = threading.Event()

    def write() -> None:
        for content in contents:
            store.put(KEY, content, "image/png")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or not reads:
        assert store.get(KEY) in contents
        reads += 1
    writer.join()
    assert [path.name for path in (tmp_path / "jobs/j1").iterdir()] == ["00-ab.png"]


def test_a_failed_local_put_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file where a folder is wanted")
    with pytest.raises(ArtifactError):
        LocalStore(tmp_path).put(KEY, b"x", "image/png")
    (tmp_path / "other/00-ab.png").mkdir(parents=True)
    with pytest.raises(ArtifactError):
        LocalStore(tmp_path).put("other/00-ab.png", b"x", "image/png")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["00-ab.png"]


def test_a_symbolic_link_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "store/link").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidArtifactKey, match="out of the artifact folder"):
        LocalStore(tmp_path / "store").put("link/x", b"x", "image/png")


def test_s3_urls_are_presigned_when_read(s3_endpoint: str, credentials: None) -> None:
    store = open_store(f"s3://bucket/p?endpoint_url={s3_endpoint}&region=us-east-1")
    store.put(KEY, b"x", "image/png")
    url = store.url(KEY, expires_s=60)
    assert "X-Amz-Expires=60" in url
    assert urlsplit(url).path == f"/bucket/p/{KEY}"
    answer = requests.get(url, timeout=10)
    assert (answer.content, answer.headers["Content-Type"]) == (b"x", "image/png")
    for wrong in (0, 604_801):
        with pytest.raises(ValueError, match="expires_s"):
            store.url(KEY, expires_s=wrong)


def test_s3_keys_may_be_given(s3_endpoint: str) -> None:
    url = f"s3://bucket?endpoint_url={s3_endpoint}&region=us-east-1"
    store = open_store(url, access_key_id="mine", secret_access_key=SecretStr("hush"))
    store.put("top.png", b"x", "image/png")
    assert "Credential=mine%2F" in store.url("top.png")
    assert "hush" not in repr(store)
    with pytest.raises(ConfigurationError, match="both"):
        open_store(url, access_key_id="mine")


def test_s3_says_what_is_wrong(s3_endpoint: str, credentials: None) -> None:
    with pytest.raises(ConfigurationError, match="no bucket 'nobucket'") as caught:
        open_store(f"s3://nobucket?endpoint_url={s3_endpoint}&region=us-east-1").get(KEY)
    assert caught.value.setting == "RYLA_ARTIFACTS"


def test_s3_without_credentials_is_a_wrong_setting(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigurationError, match="no S3 credentials"):
        open_store(f"s3://bucket?endpoint_url={s3_endpoint}&region=us-east-1").get(KEY)


def test_an_s3_that_is_away_is_unavailable(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    # Port 9 (discard) of the loopback: nothing listens there.
    store = open_store("s3://bucket?endpoint_url=http://127.0.0.1:9&region=us-east-1")
    with pytest.raises(ArtifactStoreUnavailable):
        store.get(KEY)
    with pytest.raises(ArtifactStoreUnavailable):
        store.put(KEY, b"x", "image/png")


def test_a_runpod_volume_has_no_presigned_urls(credentials: None) -> None:
    store = open_store("s3://volume?endpoint_url=https://s3api-eu-ro-1.runpod.io/")
    with pytest.raises(ArtifactError, match="RunPod network volume has no presigned URLs"):
        store.url(KEY)


def test_s3_without_boto3_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r"ryla-tasks\[s3\]"):
        open_store("s3://bucket")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "gs://bucket",
        "https://bucket",
        "file://",
        "file:///",
        "file://host/folder",
        "file:///a?b=c",
        "s3://",
        "s3:///prefix",
        "s3://key:hush@bucket",
        "s3://bucket?secret_access_key=hush",
        "s3://bucket?endpoint_url=ftp://x",
        "s3://bucket?endpoint_url=https://key:hush@x",
        "s3://bucket/../x",
        "s3://[",
    ],
)
def test_a_wrong_setting_names_itself_and_keeps_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError, match="RYLA_ARTIFACTS") as caught:
        open_store(url)
    assert caught.value.setting == "RYLA_ARTIFACTS"
    assert "hush" not in str(caught.value)


def test_a_plain_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("artifacts")
    monkeypatch.chdir("/")
    store.put("a.png", b"x", "image/png")
    assert (tmp_path / "artifacts/a.png").read_bytes() == b"x"
