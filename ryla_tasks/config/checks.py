"""What single settings may be, as types that check themselves."""

from __future__ import annotations

import datetime
import zoneinfo
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, SecretStr

__all__ = ["ApiKey", "ArtifactsUrl", "File", "Folder", "HttpUrl", "RedisUrl", "TimezoneName", "timezone_named"]


def _redis_url(value: str) -> str:
    # Celery separates alternative addresses by ";", redis-py's cluster of Sentinels by ",".
    parts = urlsplit(value.split(";")[0].split(",")[0])
    if parts.scheme not in ("redis", "rediss", "sentinel") or not parts.hostname:
        raise ValueError("must be redis://host:port/db, rediss://host:port/db or sentinel://host:port;...")
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and name a host")
    return value.rstrip("/")


def _api_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be an API key: printable characters without spaces (the value is not shown)")
    return SecretStr(text)


def _artifacts_url(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator:
        scheme, rest = "file", quote(value)
    if scheme not in ("file", "s3") or not rest.strip("/"):
        raise ValueError("must be a folder, file:// with a folder, or s3:// with a bucket and, if you like, a prefix")
    if scheme == "s3":
        return value
    # Made absolute now, while the working directory is still the one that the setting was written for.
    return Path(unquote(rest)).expanduser().resolve().as_uri()


def _folder(value: Path) -> Path:
    if not value.is_dir():
        raise ValueError(f"must be a folder; there is none at {value}")
    return value


def _file(value: Path) -> Path:
    if not value.is_file():
        raise ValueError(f"must be a file; there is none at {value}")
    return value


def timezone_named(name: str) -> datetime.tzinfo:
    """The time zone of this name. Raises `ValueError` when there is none."""
    if name == "UTC":  # known even where no time zone database is installed, as in small container images
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError(f"must be a time zone such as UTC or Europe/Berlin; {name!r} is not known") from None


def _timezone_name(value: str) -> str:
    timezone_named(value)
    return value


RedisUrl = Annotated[str, AfterValidator(_redis_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]
ArtifactsUrl = Annotated[str, AfterValidator(_artifacts_url)]
File = Annotated[Path, AfterValidator(_file)]
Folder = Annotated[Path, AfterValidator(_folder)]
TimezoneName = Annotated[str, AfterValidator(_timezone_name)]
