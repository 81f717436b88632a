"""Artifacts in an S3 bucket or anything that speaks S3: MinIO, R2, a RunPod network volume. Needs the `s3` extra."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from ryla_tasks.artifacts.base import (
    Artifact,
    ArtifactError,
    ArtifactNotFound,
    ArtifactStoreUnavailable,
    check_key,
    describe,
)
from ryla_tasks.artifacts.media import Content
from ryla_tasks.errors import ConfigurationError

__all__ = ["S3Store"]

SETTING = "RYLA_ARTIFACTS"

#: S3's own limit for a presigned URL, in seconds: 7 days.
MAX_URL_AGE_S = 604_800

#: From this size an upload goes in parts; S3 and RunPod's volumes refuse very large single puts (RunPod: 500 MB).
MULTIPART_FROM_BYTES = 64 * 1024 * 1024

_RUNPOD_VOLUME = re.compile(r"s3api-(?P<datacenter>[a-z0-9-]+)\.runpod\.io")
_NOT_FOUND = frozenset({"404", "NoSuchKey", "NotFound"})


class _Reader(io.RawIOBase):
    """A file's content as a stream, without a copy of it."""

    def __init__(self, data: Content) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size is None or size < 0 else self._at + size
        piece = self._data[self._at : end]
        self._at += len(piece)
        return piece


class S3Store:
    """Keeps each artifact as an object under `prefix` in `bucket`. Puts are atomic, as S3 makes them.

    Credentials come from boto3's own chain (environment, profile, instance role) unless both keys are given.
    `url` makes presigned URLs when somebody reads. A RunPod network volume (bucket = volume id, endpoint
    `https://s3api-DATACENTER.runpod.io/`) has no presigned URLs: there `url` raises `ArtifactError`, and `get` and
    `open` are the way (docs.runpod.io, storage/s3-api).
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: SecretStr | None = None,
    ) -> None:
        if (access_key_id is None) != (secret_access_key is None):
            raise ConfigurationError("S3 wants both the access key id and the secret access key, or neither", SETTING)
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        if self.prefix:
            check_key(self.prefix)
        volume = _RUNPOD_VOLUME.fullmatch(urlsplit(endpoint_url or "").hostname or "")
        self.presigns = volume is None
        if volume and region is None:
            region = volume["datacenter"].upper()  # RunPod: the region is the data centre
        self._client = _make_client(endpoint_url, region, access_key_id, secret_access_key)

    def __repr__(self) -> str:
        return f"S3Store({self.bucket!r}, {self.prefix!r})"

    def put(self, key: str, data: Content, content_type: str) -> Artifact:
        name = self._name(key)
        transfer = import_module("boto3.s3.transfer")
        config = transfer.TransferConfig(multipart_threshold=MULTIPART_FROM_BYTES, use_threads=False)
        with self._translated(key):
            self._client.upload_fileobj(
                _Reader(data), self.bucket, name, ExtraArgs={"ContentType": content_type}, Config=config
            )
        return describe(key, data, content_type)

    def get(self, key: str) -> bytes:
        with self.open(key) as stream, self._translated(key):
            return stream.read()

    def open(self, key: str) -> BinaryIO:
        name = self._name(key)
        with self._translated(key):
            answer = self._client.get_object(Bucket=self.bucket, Key=name)
        return cast("BinaryIO", answer["Body"])

    def exists(self, key: str) -> bool:
        name = self._name(key)
        try:
            with self._translated(key):
                self._client.head_object(Bucket=self.bucket, Key=name)
        except ArtifactNotFound:
            return False
        return True

    def url(self, key: str, expires_s: int = 3600) -> str:
        """A presigned URL, 1 second to 7 days (604,800 s). Made here, without asking the server."""
        name = self._name(key)
        if not self.presigns:
            raise ArtifactError(
                "a RunPod network volume has no presigned URLs: read the artifact with get() or open(), or keep "
                f"artifacts in another bucket ({SETTING})"
            )
        if not 1 <= expires_s <= MAX_URL_AGE_S:
            raise ValueError(f"expires_s must be 1 to {MAX_URL_AGE_S} seconds, not {expires_s}")
        with self._translated(key):
            url = self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": name}, ExpiresIn=expires_s
            )
        return str(url)

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._translated(key):
            self._client.delete_object(Bucket=self.bucket, Key=name)

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        exceptions = import_module("botocore.exceptions")
        try:
            yield
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise ConfigurationError(f"there are no S3 credentials for bucket {self.bucket!r}", SETTING) from error
        except exceptions.ClientError as error:
            raise self._refusal(key, error) from error
        except (exceptions.HTTPClientError, exceptions.BotoCoreError) as error:
            # Only the class: the text may hold the URL that was asked for.
            raise ArtifactStoreUnavailable(f"artifact {key!r}: S3 gave no answer ({type(error).__name__})") from None
        except _boto3_errors() as error:
            raise ArtifactStoreUnavailable(f"artifact {key!r}: the transfer failed ({type(error).__name__})") from None

    def _refusal(self, key: str, error: Any) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code == "NoSuchBucket":
            return ConfigurationError(f"{SETTING}: there is no bucket {self.bucket!r}", SETTING)
        if code in _NOT_FOUND:
            return ArtifactNotFound(f"there is no artifact {key!r}")
        text = f"artifact {key!r}: S3 answered {code or 'an error'} (HTTP {status})"
        return ArtifactStoreUnavailable(text) if status >= 500 or status == 429 else ArtifactError(text)


def _boto3_errors() -> tuple[type[Exception], ...]:
    errors = import_module("boto3.exceptions")
    return (errors.Boto3Error,)


def _make_client(
    endpoint_url: str | None, region: str | None, access_key_id: str | None, secret: SecretStr | None
) -> Any:
    try:
        boto3 = import_module("boto3")
        config = import_module("botocore.config")
    except ImportError as error:
        raise ConfigurationError(
            f"{SETTING} names an S3 bucket, which needs boto3: pip install 'ryla-tasks[s3]'", SETTING
        ) from error
    # A session of its own: boto3's default session is not safe to make clients from in several threads.
    session = boto3.session.Session(
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        region_name=region,
    )
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        config=config.Config(
            signature_version="s3v4",
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "max_attempts": 4},
            # Other servers than Amazon's do not all have buckets as host names, nor the newer checksums.
            s3={"addressing_style": "path"} if endpoint_url else {},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
