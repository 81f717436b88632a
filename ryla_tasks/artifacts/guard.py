"""Connections that go only where they may, and end when their time is over."""

from __future__ import annotations

import ipaddress
import socket
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["AddressRules", "ForbiddenAddress", "GuardedAdapter", "TimeGuard"]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddress(Exception):
    """The connection would go, or went, to an address that the rules do not admit. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Which addresses a connection may go to. Link-local ones, where clouds keep credentials, never."""

    allow_private: bool = False
    allow_http_loopback: bool = False

    def check(self, address: str, scheme: str) -> None:
        """Raise `ForbiddenAddress` unless `scheme` may be spoken with the numeric `address`."""
        if not self._admits(_unwrapped(ipaddress.ip_address(address.partition("%")[0])), scheme):
            raise ForbiddenAddress(address)

    def _admits(self, address: _Address, scheme: str) -> bool:
        if address.is_loopback and self.allow_http_loopback:
            return True
        if scheme != "https" or address.is_link_local or address.is_multicast or address.is_unspecified:
            return False
        return address.is_global or self.allow_private


class TimeGuard:
    """Ends whatever connection is in use when `timeout_s` seconds have passed since entering.

    Socket time-outs bound one read each; a server that sends a byte now and then would never meet one. `over` says
    that the time has passed, `connected` that there was a connection at all.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.over = False
        self.connected = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(timeout_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._release()

    def watch(self, connection: socket.socket) -> None:
        """Guard this connection from now on, instead of the one before."""
        with self._lock:
            self._release()
            # A duplicate, as TLS takes the original apart; shutting one down shuts both.
            self._socket = connection.dup()
            self.connected = True
            if self.over:
                self._shut()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # already closed by the other side

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class GuardedAdapter(HTTPAdapter):
    """A requests adapter whose every connection is checked by `rules` once made, and watched by `guard`."""

    def __init__(self, rules: AddressRules, guard: TimeGuard) -> None:
        self._rules = rules
        self._guard = guard
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self._rules, self._guard)


def _pool_classes(rules: AddressRules, guard: TimeGuard) -> dict[str, type[HTTPConnectionPool]]:
    def admit(connection: socket.socket, scheme: str) -> socket.socket:
        try:
            rules.check(str(connection.getpeername()[0]), scheme)
            guard.watch(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    class PlainConnection(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return admit(super()._new_conn(), "http")

    class TlsConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return admit(super()._new_conn(), "https")

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return {"http": PlainPool, "https": TlsPool}


def _unwrapped(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address
