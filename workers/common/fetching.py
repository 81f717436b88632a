"""Files that a job names by URL: fetched whole or not at all, from public addresses, within limits.

Every redirect is checked like the first URL. What is refused is a `FetchRefused`, what went wrong on the way a
`FetchFailed`; neither shows more of a URL than its host, because a presigned URL is a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import aiohttp
from yarl import URL

from workers.common.addresses import FetchRefused, Rules, guarded_connector, shown
from workers.common.failures import JobFailure

__all__ = ["FetchFailed", "FetchRefused", "Fetched", "fetch"]

_MOST_REDIRECTS = 5
_TRIES = 3
_PAUSE_S = 1.0
_CHUNK = 1 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_connect=15, sock_read=60)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: What stores call a file whose type they were not told.
_UNTYPED = frozenset({"", "application/octet-stream", "binary/octet-stream"})


class FetchFailed(JobFailure):
    """A file could not be fetched; another try may go better unless `final`."""

    def __init__(self, why: str, url: str, *, final: bool = False) -> None:
        code = "fetch_gone" if final else "fetch_failed"
        sentence = (
            "A file of the job is not where it should be." if final else "A file of the job could not be fetched."
        )
        super().__init__(code, sentence, {"reason": why, "url": shown(url)})
        self.why = why
        self.final = final


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is there as a whole. `content_type` is what its server said, lower case, without parameters."""

    path: Path
    content_type: str
    bytes: int
    sha256: str


async def fetch(
    url: str,
    to: Path,
    *,
    most_bytes: int,
    types: Collection[str] = (),
    sha256: str | None = None,
    rules: Rules | None = None,
) -> Fetched:
    """Fetch a URL into a file, which appears under its name only when it is complete.

    `types` are the content types that are taken (`image/png`, `image/*`; none: any); a server that does not know
    (application/octet-stream) passes, so look at the file before you trust it. `sha256` is checked where it is given.
    Raises `FetchRefused` and `FetchFailed`. Connections that break and answers 5xx are tried three times in all.
    """
    rules = Rules.from_env() if rules is None else rules
    for number in range(1, _TRIES + 1):
        try:
            return await _fetch_once(url, to, most_bytes, types, sha256, rules)
        except FetchFailed as failed:
            if failed.final or number == _TRIES:
                raise
        await asyncio.sleep(_PAUSE_S * number)
    raise AssertionError  # pragma: no cover - the last try raises or returns


async def _fetch_once(
    url: str, to: Path, most_bytes: int, types: Collection[str], sha256: str | None, rules: Rules
) -> Fetched:
    try:
        current = URL(url)
    except (TypeError, ValueError):
        raise FetchRefused("not a URL") from None
    for _ in range(_MOST_REDIRECTS + 1):
        rules.check(current)
        try:
            connector = guarded_connector(rules, current.scheme)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=False) as session,
                session.get(current, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
            ):
                if response.status not in _REDIRECTS:
                    return await _save(response, to, most_bytes, types, sha256)
                current = _redirect(current, response)
        except aiohttp.InvalidURL:
            raise FetchRefused("not a URL", url) from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise FetchFailed(type(error).__name__, url) from None
    raise FetchRefused("too many redirects", url)


def _redirect(url: URL, response: aiohttp.ClientResponse) -> URL:
    try:
        return url.join(URL(response.headers.get("Location", "")))
    except ValueError:
        raise FetchRefused("a redirect to what is not a URL", str(url)) from None


async def _save(
    response: aiohttp.ClientResponse, to: Path, most_bytes: int, types: Collection[str], sha256: str | None
) -> Fetched:
    url = str(response.url)
    if response.status != 200:
        again = response.status >= 500 or response.status in (408, 425, 429)
        raise FetchFailed(f"HTTP {response.status}", url, final=not again)
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not _is_taken(content_type, types):
        raise FetchRefused(f"content type {content_type}", url)
    if response.content_length is not None and response.content_length > most_bytes:
        raise FetchRefused(f"{response.content_length} bytes, at most {most_bytes} are taken", url)
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{to.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            size, digest = await _copy(response, file, most_bytes)
        if sha256 and digest != sha256.lower():
            raise FetchRefused("another sha256 than was said", url)
        part.replace(to)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    return Fetched(to, content_type, size, digest)


async def _copy(response: aiohttp.ClientResponse, file: BinaryIO, most_bytes: int) -> tuple[int, str]:
    """Copy a body, off the event loop: a network volume may take its time."""
    size, digest = 0, hashlib.sha256()
    async for chunk in response.content.iter_chunked(_CHUNK):
        size += len(chunk)
        if size > most_bytes:
            raise FetchRefused(f"more than {most_bytes} bytes", str(response.url))
        digest.update(chunk)
        await asyncio.to_thread(file.write, chunk)
    await asyncio.to_thread(_flush, file)
    return size, digest.hexdigest()


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _is_taken(content_type: str, types: Collection[str]) -> bool:
    if not types or content_type in _UNTYPED or content_type in types:
        return True
    return f"{content_type.partition('/')[0]}/*" in types
