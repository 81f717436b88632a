"""A Redis-compatible server of one's own, for development, demonstrations and tests."""

from __future__ import annotations

from ryla_tasks.embedded.binary import ServerBinary, find_server
from ryla_tasks.embedded.server import RedisServer

__all__ = ["RedisServer", "ServerBinary", "find_server"]
