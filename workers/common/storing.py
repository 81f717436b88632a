"""The S3-compatible store that results go to, by worker-comfyui's variables and a few more.

| variable | |
|---|---|
| BUCKET_ENDPOINT_URL | the store; without it results go back as base64 |
| BUCKET_NAME | the bucket; may be the first part of the endpoint's path instead |
| BUCKET_ACCESS_KEY_ID, BUCKET_SECRET_ACCESS_KEY | the keys |
| BUCKET_PREFIX | what every key begins with |
| BUCKET_URL_TTL_S | how long the presigned URLs work; 7 days, which is also the most |
| BUCKET_REGION | where the store wants one; us-east-1 |
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workers.common.failures import JobFailure

__all__ = ["Store", "StoreFailed"]

_LONGEST_TTL_S = 7 * 86_400


class StoreFailed(JobFailure):
    """A result could not be stored."""

    def __init__(self, why: str) -> None:
        super().__init__("store_failed", "The result could not be stored by the GPU worker.", {"reason": why})


@dataclass(slots=True)
class Store:
    """One bucket. The client is made at the first use, and kept."""

    endpoint: str
    bucket: str
    key_id: str
    secret: str = field(repr=False)
    prefix: str = ""
    url_ttl_s: int = _LONGEST_TTL_S
    region: str = "us-east-1"
    _client: Any = field(default=None, init=False, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Store | None:
        """The store that the environment names, None where it names none. `ValueError` where it is half named."""
        env = os.environ if env is None else env
        url = env.get("BUCKET_ENDPOINT_URL", "").strip().rstrip("/")
        if not url:
            return None
        parts = urlsplit(url)
        name, _, rest = parts.path.strip("/").partition("/")
        bucket = env.get("BUCKET_NAME", "").strip()
        if bucket:
            endpoint = url
        else:
            bucket, endpoint = name, f"{parts.scheme}://{parts.netloc}"
        missing = [one for one in ("BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY") if not env.get(one)]
        if not bucket or not parts.netloc:
            missing.append("BUCKET_NAME")
        if missing:
            raise ValueError(f"BUCKET_ENDPOINT_URL is set, but not {', '.join(missing)}")
        prefix = env.get("BUCKET_PREFIX", "" if env.get("BUCKET_NAME") else rest).strip("/")
        ttl = int(env.get("BUCKET_URL_TTL_S") or _LONGEST_TTL_S)
        return cls(
            endpoint,
            bucket,
            env["BUCKET_ACCESS_KEY_ID"],
            env["BUCKET_SECRET_ACCESS_KEY"],
            prefix,
            max(1, min(ttl, _LONGEST_TTL_S)),
            env.get("BUCKET_REGION") or "us-east-1",
        )

    async def put(self, path: Path, key: str, content_type: str) -> str:
        """Store a file under `prefix/key`, and return a presigned URL of it. Raises `StoreFailed`."""
        return await asyncio.to_thread(self._put, path, f"{self.prefix}/{key}" if self.prefix else key, content_type)

    def _put(self, path: Path, key: str, content_type: str) -> str:
        errors = (
            import_module("botocore.exceptions").BotoCoreError,
            import_module("botocore.exceptions").ClientError,
            import_module("boto3.exceptions").Boto3Error,
        )
        try:
            client = self._connected()
            client.upload_file(str(path), self.bucket, key, ExtraArgs={"ContentType": content_type})
            url = client.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": key}, ExpiresIn=self.url_ttl_s
            )
        except errors as error:
            raise StoreFailed(type(error).__name__) from error
        return str(url)

    def _connected(self) -> Any:
        if self._client is None:
            # Checksums that S3 added in 2025 are refused by R2, GCS and others: only where an operation requires them.
            config = import_module("botocore.config").Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"max_attempts": 5, "mode": "standard"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
            self._client = import_module("boto3").client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=self.key_id,
                aws_secret_access_key=self.secret,
                region_name=self.region,
                config=config,
            )
        return self._client
