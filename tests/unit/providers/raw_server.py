"""A server that plays, byte for byte, whatever a test wants a client to meet."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Behaviour", "RawServer", "Seen", "drip", "hang_up", "raw", "reply", "silence"]


@dataclass(frozen=True)
class Seen:
    """A request as it came; `connection` numbers the connections of the server from 1."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


Behaviour = Callable[[socket.socket, Seen], bool]
"""Answers one request; True keeps the connection open for the next."""


def reply(
    status: int, body: Any = b"", headers: Mapping[str, str] | None = None, *, length: int | None = None
) -> Behaviour:
    """A whole answer; `length` announces another length than the body has, and then hangs up."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Length": str(len(data) if length is None else length), **(headers or {})}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"

    def behave(sock: socket.socket, seen: Seen) -> bool:
        sock.sendall(head.encode() + data)
        return length is None

    return behave


def raw(data: bytes) -> Behaviour:
    """Exactly these bytes, then a hang-up."""

    def behave(sock: socket.socket, seen: Seen) -> bool:
        sock.sendall(data)
        return False

    return behave


def hang_up(sock: socket.socket, seen: Seen) -> bool:
    return False


def silence(sock: socket.socket, seen: Seen) -> bool:
    """Say nothing until the client has gone."""
    sock.recv(1)
    return False


def drip(head: bytes, gap_s: float = 0.05) -> Behaviour:
    """`head` at once, then a byte at a time until the client has gone."""

    def behave(sock: socket.socket, seen: Seen) -> bool:
        sock.sendall(head)
        sock.settimeout(gap_s)
        while True:
            try:
                if not sock.recv(1):
                    return False
            except TimeoutError:
                sock.sendall(b"x")

    return behave


class RawServer:
    """Plays `behaviours` in turn, one for each request, the last one for ever. Counts requests and connections."""

    def __init__(self, *behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behaviours = list(behaviours)
        self.requests: list[Seen] = []
        self.connections = 0
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v2"

    def close(self) -> None:
        self._listener.close()
        self.hang_up_all()

    def hang_up_all(self) -> None:
        """Close every connection, as a server does with idle ones."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True).start()

    def _serve(self, sock: socket.socket, connection: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rb") as file:
                while (seen := self._request(file, connection)) and self._next(seen)(sock, seen):
                    sock.settimeout(None)
        except (OSError, ValueError):
            pass
        finally:
            sock.close()

    def _request(self, file: Any, connection: int) -> Seen | None:
        line = file.readline().decode("latin-1")
        if not line:
            return None
        method, path, _ = line.split(" ", 2)  # what is no HTTP ends here
        headers: dict[str, str] = {}
        while (header := file.readline().decode().rstrip()) != "":
            name, value = header.split(": ", 1)
            headers[name.lower()] = value
        return Seen(method, path, headers, file.read(int(headers.get("content-length", 0))), connection)

    def _next(self, seen: Seen) -> Behaviour:
        with self._lock:
            self.requests.append(seen)
            return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
