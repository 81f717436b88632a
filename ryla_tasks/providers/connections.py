"""Connections that keep a call's deadline and know whether anything of it was sent.

urllib3's time-outs are for one read each: a server that sends a byte a second holds a caller for ever. And its
exceptions do not say whether a request had left: a TLS error may come from the handshake or from the answer.
Both are facts that only the connection knows, so they are kept there.
"""

from __future__ import annotations

import http.client
import io
import ssl
import threading
import time
from typing import IO, TYPE_CHECKING, Any, cast

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    import socket

__all__ = ["Adapter", "CallState", "current"]


class CallState:
    """One call in progress: its deadline (on the monotonic clock), and whether its first byte may have gone out."""

    __slots__ = ("deadline", "read_timeout", "sent")

    def __init__(self, deadline: float, read_timeout: float) -> None:
        self.deadline = deadline
        self.read_timeout = read_timeout
        self.sent = False

    def left(self) -> float:
        """Seconds until the deadline; raises TimeoutError when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for the whole call is over")
        return left


class _Current(threading.local):
    """The call of this thread. urllib3 chooses the connection inside `urlopen`, which has no argument for it."""

    call: CallState | None = None

    def require(self) -> CallState:
        if self.call is None:
            raise RuntimeError("a bounded connection was used outside of a call")
        return self.call


current = _Current()


class _BoundedReader(io.RawIOBase):
    """Reads a socket; each read waits for the read time-out or the deadline, whichever is nearer."""

    def __init__(self, sock: socket.socket, call: CallState) -> None:
        super().__init__()
        self._sock = sock
        self._call = call
        self._raw = cast("io.RawIOBase", sock.makefile("rb", buffering=0))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._call.left()
        if left < self._call.read_timeout:
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


class _BoundedSocket:
    """The part of a socket that `http.client.HTTPResponse` uses: it makes a file of it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> IO[bytes]:
        if mode != "rb":
            raise ValueError(f"unexpected mode {mode!r}")
        return io.BufferedReader(_BoundedReader(self._sock, current.require()))


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        super().__init__(cast("socket.socket", _BoundedSocket(sock)), debuglevel, method, url)


class _Bounded(HTTPConnection):
    response_class = _BoundedResponse
    _ready = False

    def connect(self) -> None:
        # What goes out while connecting is the CONNECT to a proxy and the handshake, nothing of the request.
        self._ready = False
        super().connect()
        self._ready = True

    def send(self, data: Any) -> None:
        call = current.require()
        if self.sock is None:
            self.connect()
        if self._ready:
            # urllib3 would send under the connect time-out, which is too short for a body of 10 MB.
            self.sock.settimeout(call.left())
            call.sent = True
        super().send(data)


class _BoundedTls(_Bounded, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


_POOLS: dict[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _TlsPool}


class Adapter(HTTPAdapter):
    """A `requests` adapter whose connections are bounded, and which never repeats a request.

    The TLS context is made once by the owner and shared: reading the list of authorities costs some 17 ms of
    CPU, which `requests` would spend on every new connection.
    """

    def __init__(self, pool_size: int, context: ssl.SSLContext | None) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(
        self, request: Any, verify: Any, cert: Any = None
    ) -> Any:  # a pair of mappings; `requests` has no public names for their types
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {} if self._context is None else {"ssl_context": self._context}
