"""From the one setting to the store that it means."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import SecretStr

from ryla_tasks.artifacts.base import ArtifactStore, InvalidArtifactKey
from ryla_tasks.artifacts.local import LocalStore
from ryla_tasks.artifacts.shared import SharedStore
from ryla_tasks.errors import ConfigurationError

if TYPE_CHECKING:
    from ryla_tasks.settings import Settings

__all__ = ["open_store", "store_of"]

SETTING = "RYLA_ARTIFACTS"
_S3_OPTIONS = frozenset({"endpoint_url", "region"})
_FORMS = "file:///absolute/folder, a plain path, or s3://bucket/prefix?endpoint_url=...&region=..."


def store_of(settings: Settings) -> ArtifactStore:
    """The store of the settings. A folder that a web app shares makes URLs of it. Raises `ConfigurationError`."""
    store = open_store(settings.artifacts)
    if isinstance(store, LocalStore) and settings.artifacts_url is not None and settings.webhook_secret is not None:
        return SharedStore(store.root, settings.artifacts_url, settings.webhook_secret)
    return store


def open_store(
    url: str, *, access_key_id: str | None = None, secret_access_key: SecretStr | None = None
) -> ArtifactStore:
    """Open the store that `url` names: `file:///folder`, a plain path, or `s3://bucket/prefix?endpoint_url=&region=`.

    The two keys are for S3; without them boto3's own chain finds credentials. A URL that carries credentials is
    refused, because settings are shown and logged. Raises `ConfigurationError` naming `RYLA_ARTIFACTS`.
    """
    if not isinstance(url, str) or not url.strip():
        raise _wrong("is empty")
    url = url.strip()
    if "://" not in url:
        return LocalStore(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong("is not a URL") from None
    match parts.scheme.lower():
        case "file":
            return _open_folder(parts)
        case "s3":
            return _open_bucket(parts, access_key_id, secret_access_key)
        case scheme:
            raise _wrong(f"has the scheme {scheme!r}")


def _open_folder(parts: SplitResult) -> ArtifactStore:
    if parts.netloc not in {"", "localhost"}:
        raise _wrong(f"names the host {parts.netloc!r}: a folder wants three slashes, file:///folder")
    if not parts.path.strip("/") or parts.query or parts.fragment:
        raise _wrong("does not name a folder")
    return LocalStore(unquote(parts.path))


def _open_bucket(parts: SplitResult, access_key_id: str | None, secret_access_key: SecretStr | None) -> ArtifactStore:
    if "@" in parts.netloc:
        raise _wrong("holds credentials: give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    if not parts.netloc or parts.fragment:
        raise _wrong("does not name a bucket")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(options.keys() - _S3_OPTIONS):
        raise _wrong(f"has the unknown option {unknown[0]!r}")
    endpoint = options.get("endpoint_url")
    if endpoint is not None and not _is_plain_http(endpoint):
        raise _wrong("has an endpoint_url that is not a plain http(s) URL")

    from ryla_tasks.artifacts.s3 import S3Store  # boto3 is an extra

    try:
        return S3Store(
            parts.netloc,
            unquote(parts.path).strip("/"),
            endpoint_url=endpoint,
            region=options.get("region"),
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
        )
    except InvalidArtifactKey as error:
        raise _wrong(f"has a prefix that cannot be one ({error})") from error


def _is_plain_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"{SETTING} {what}; it is one of: {_FORMS}", SETTING)
