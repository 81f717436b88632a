"""Ports for a server that clients keep trying to reach while it is down."""

from __future__ import annotations

import random
import socket

__all__ = ["HOST", "free_port", "is_free"]

HOST = "127.0.0.1"

# Below the ephemeral ports of Linux (from 32768) and macOS (from 49152). Among those, a client that reconnects to a
# server that is down would one day be given the server's own port as its source, connect to itself and keep the
# server from coming back.
_FIRST, _LAST = 20_000, 32_767


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on now. Somebody may in a moment: who uses it must be ready to ask for another."""
    numbers = random.SystemRandom()
    while True:
        port = numbers.randint(_FIRST, _LAST)
        if is_free(port):
            return port
