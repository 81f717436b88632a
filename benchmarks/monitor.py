"""Redis commands, counted as they come: those that clients send, and those that run inside scripts."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import redis

__all__ = ["CommandCount"]


class CommandCount:
    """Counts all commands while it is entered, by MONITOR, which tells a script's commands (`[0 lua]`) from others.

    MONITOR slows Redis down, so nothing else is measured at the same time.
    """

    def __init__(self, client: redis.Redis) -> None:
        options = client.connection_pool.connection_kwargs
        self._address = (options["host"], options["port"])
        self.sent = 0
        self.in_scripts = 0

    def __enter__(self) -> Self:
        self._socket = socket.create_connection(self._address)
        self._socket.sendall(b"MONITOR\r\n")
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._file.close()
        self._socket.close()

    def _count(self) -> None:
        for line in self._file:
            # +1700000000.000000 [0 127.0.0.1:50000] "GET" "key"
            source = line.partition(b"]")[0]
            if source.endswith(b" lua"):
                self.in_scripts += 1
            elif b" [" in source:
                self.sent += 1
