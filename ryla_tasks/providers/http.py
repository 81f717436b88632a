"""One HTTP call: sent once, bounded in time and size, and honest about what is known when it goes wrong."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, urlsplit

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Retry, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from ryla_tasks.errors import AnswerLost, ConfigurationError, NotConnected
from ryla_tasks.providers.connections import Adapter, CallState, current

__all__ = ["Answer", "HttpClient", "Timeouts"]

_ONCE = Retry.from_int(False, redirect=False)
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_ERROR_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that one call may take: to connect, to wait for the next bytes, and in all.

    The total counts from the call to the last byte of the answer. Connecting may take its time for each address
    of the host and once more for the handshake, and the system's name look-up keeps a time of its own.
    """

    connect: float = 5
    read: float = 15
    total: float = 30

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"timeouts.{name} must be more than 0 seconds", setting=f"timeouts.{name}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; with `truncated`, one that was too large, whose body was left unread."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False


class HttpClient:
    """Calls to one base URL over pooled connections. Safe for many threads, and across a fork.

    A `requests` session holds the settings and works out proxies, certificates and, with `trust_env`, what the
    environment says of them. A call then goes straight to the pool of its adapter: `Session.get` spends two
    thirds of its time on cookies, hooks and redirects that an API of JSON has none of.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        timeouts: Timeouts,
        pool_size: int,
        proxies: Mapping[str, str] | None = None,
        verify: bool | str = True,
        trust_env: bool = False,
    ) -> None:
        base_url = base_url.rstrip("/")
        parts = _checked(base_url)
        self.host = parts.netloc
        self._headers = dict(headers)
        self._timeouts = timeouts
        self._timeout = Timeout(connect=timeouts.connect, read=timeouts.read)
        self._pool_size = pool_size
        self._probe = requests.Request("GET", base_url).prepare()
        with requests.Session() as session:
            session.trust_env = trust_env
            session.proxies.update(proxies or {})
            session.verify = verify
            merged = session.merge_environment_settings(base_url, {}, None, None, None)
        self._proxies: dict[str, str] = dict(merged["proxies"])
        self._context = _tls_context(merged["verify"] or False) if parts.scheme == "https" else None
        proxy = select_proxy(base_url, self._proxies)
        if proxy and proxy.lower().startswith("socks"):
            raise ConfigurationError("a SOCKS proxy is not supported: name an HTTP proxy", setting="proxies")
        # A proxy that forwards plain HTTP wants the whole URL; everybody else wants the path.
        self._prefix = base_url if proxy and parts.scheme == "http" else parts.path
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._pool = self._new_pool(pool_size)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        fresh: bool = False,
        max_bytes: int | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """Send one request, once, and read its answer. Redirects are answers like any other.

        `fresh` takes a connection that nobody used before and nobody will use again: one that the server closed
        while it lay idle would fail after the first byte, where nobody can tell whether the request was taken.
        `deadline` (monotonic clock) shortens the total time-out.

        Raises `NotConnected` where not a byte of the request was sent, `AnswerLost` where it was.
        """
        if self._closed:
            raise NotConnected("the client is closed")
        end = time.monotonic() + self._timeouts.total
        state = CallState(end if deadline is None else min(end, deadline), self._timeouts.read)
        pool = self._new_pool(1) if fresh else self._shared_pool()
        current.call = state
        try:
            response = pool.urlopen(
                method,
                self._prefix + path,
                body=body,
                headers=self._headers_for(body, fresh),
                retries=_ONCE,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                timeout=self._timeout_for(state),
            )
            return self._read(response, max_bytes)
        except (HTTPError, HTTPException, OSError) as error:
            raise self._explained(error, state) from error
        finally:
            current.call = None
            if fresh:
                pool.close()

    def close(self) -> None:
        """Close the idle connections. Calls in progress end; later ones raise `NotConnected`."""
        self._closed = True
        self._pool.close()

    def _headers_for(self, body: bytes | None, fresh: bool) -> dict[str, str]:
        if body is None and not fresh:
            return self._headers
        content = {} if body is None else {"Content-Type": "application/json"}
        return self._headers | content | ({"Connection": "close"} if fresh else {})

    def _timeout_for(self, state: CallState) -> Timeout:
        left = state.left()
        if left >= self._timeouts.connect:
            return self._timeout
        return Timeout(connect=left, read=self._timeouts.read)

    def _read(self, response: BaseHTTPResponse, max_bytes: int | None) -> Answer:
        status, headers = response.status, response.headers
        if not 200 <= status < 300:
            return Answer(status, headers, _excerpt(response))
        limit = _MAX_ANSWER_BYTES if max_bytes is None else max_bytes
        whole = False
        try:
            announced = getattr(response, "length_remaining", None)
            if announced is not None and announced > limit:
                return Answer(status, headers, b"", truncated=True)
            body = response.read(limit + 1)
            if len(body) > limit:
                return Answer(status, headers, b"", truncated=True)
            whole = True
            return Answer(status, headers, body)
        finally:
            if not whole:
                response.close()

    def _explained(self, error: Exception, state: CallState) -> NotConnected | AnswerLost:
        reason = _reason(error)
        if state.sent:
            return AnswerLost(f"the answer of {self.host} was lost ({reason})")
        return NotConnected(f"nothing was sent to {self.host} ({reason})")

    def _new_pool(self, size: int) -> HTTPConnectionPool:
        adapter = Adapter(size, self._context)
        pool = adapter.get_connection_with_tls_context(self._probe, True, proxies=self._proxies)
        return cast("HTTPConnectionPool", pool)

    def _shared_pool(self) -> HTTPConnectionPool:
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    # After a fork two processes would read each other's answers off the same sockets.
                    self._pool = self._new_pool(self._pool_size)
                    self._pid = os.getpid()
        return self._pool


def _excerpt(response: BaseHTTPResponse) -> bytes:
    """The beginning of an error's body. The status has said what matters, so a body that breaks is left out."""
    body, whole = b"", False
    try:
        body = response.read(_MAX_ERROR_BYTES + 1)
        whole = len(body) <= _MAX_ERROR_BYTES
    except (HTTPError, HTTPException, OSError):
        pass
    finally:
        if not whole:
            response.close()
    return body[:_MAX_ERROR_BYTES]


def _checked(base_url: str) -> SplitResult:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("base_url must be an http or https URL with a host", setting="base_url")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("base_url must have no user, query or fragment in it", setting="base_url")
    return parts


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    context = create_urllib3_context()
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    source = Path(DEFAULT_CA_BUNDLE_PATH if verify is True else verify)
    try:
        if source.is_dir():
            context.load_verify_locations(capath=str(source))
        else:
            context.load_verify_locations(cafile=str(source))
    except OSError as error:  # a bundle that is no bundle is an ssl.SSLError, which is one too
        raise ConfigurationError(f"no certificates could be read from {source}", setting="verify") from error
    return context


def _reason(error: Exception) -> str:
    """The innermost cause that urllib3 packed into an error, in few words."""
    inner: BaseException = error
    while inner.args and isinstance(inner.args[-1], BaseException):
        inner = inner.args[-1]
    return f"{type(inner).__name__}: {inner}"[:200]
