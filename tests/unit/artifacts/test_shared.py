"""Signed URLs of a folder's files."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ryla_tasks.artifacts import InvalidArtifactKey, LocalStore, store_of
from ryla_tasks.artifacts.shared import SharedStore, is_signed
from ryla_tasks.errors import ConfigurationError
from ryla_tasks.settings import Settings

SECRET = SecretStr("a-secret-of-sixteen-and-more")
URL = "https://app.example/ryla/shared"
SEGMENT = st.from_regex(r"[A-Za-z0-9_@=+,~-][A-Za-z0-9_@=+,~.-]{0,20}", fullmatch=True)


def parts(url: str) -> tuple[str, str, str]:
    split = urlsplit(url)
    query = parse_qs(split.query)
    return unquote(split.path.removeprefix("/ryla/shared/")), query["expires"][0], query["signature"][0]


@given(st.lists(SEGMENT, min_size=1, max_size=4).map("/".join))
def test_a_url_is_good_for_its_key_alone(key: str) -> None:
    store = SharedStore("/nowhere", URL, SECRET)
    own, expires, signature = parts(store.url(key, 60))
    assert own == key
    assert is_signed(SECRET, key, expires, signature)
    assert not is_signed(SECRET, key + "x", expires, signature)
    assert not is_signed(SECRET, key, str(int(expires) + 1), signature)
    assert not is_signed(SecretStr("another secret altogether"), key, expires, signature)


@pytest.mark.parametrize(("expires", "signature"), [("", ""), ("1e9", "x"), ("٣", "x"), ("9" * 30, "x"), ("1", "\xe4")])
def test_nonsense_is_no_signature(expires: str, signature: str) -> None:
    assert not is_signed(SECRET, "a/b.png", expires, signature)


def test_it_expires() -> None:
    _key, expires, signature = parts(SharedStore("/nowhere", URL, SECRET).url("a/b.png", -1))
    assert not is_signed(SECRET, "a/b.png", expires, signature)


def test_a_key_that_leads_out_has_no_url() -> None:
    with pytest.raises(InvalidArtifactKey):
        SharedStore("/nowhere", URL, SECRET).url("../etc/passwd")


def test_the_settings_say_whether_a_folder_is_shared(tmp_path: Path) -> None:
    shared = Settings(artifacts=str(tmp_path), artifacts_url=URL, webhook_secret=SECRET.get_secret_value())
    assert isinstance(store_of(shared), SharedStore)
    assert type(store_of(Settings(artifacts=str(tmp_path)))) is LocalStore
    with pytest.raises(ConfigurationError, match=r"ARTIFACTS_URL.*webhook_secret"):
        Settings(artifacts=str(tmp_path), artifacts_url=URL)
