"""A master with two replicas, and a Sentinel that watches them: processes on this machine."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from ryla_tasks.embedded import RedisServer, find_server
from ryla_tasks.embedded.ports import free_port
from tests.support.fleet import eventually

__all__ = ["MASTER", "Sentinel"]

#: What the Sentinel calls the master.
MASTER = "ryla"

_CONFIG = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {master} 127.0.0.1 {master_port} 1
sentinel down-after-milliseconds {master} 500
sentinel failover-timeout {master} 10000
sentinel parallel-syncs {master} 2
"""


class Sentinel:
    """Three servers, so that a replica is left to wait for when the master is dead. A context manager."""

    def __init__(self) -> None:
        # A replica is not kept waiting for others that could share its first copy.
        self.servers = [RedisServer(config={"repl-diskless-sync-delay": "0"}) for _ in range(3)]
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="ryla-sentinel-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for settings. Nobody listens at the first one, as where one of the Sentinels is down."""
        return f"sentinel://127.0.0.1:1/0;sentinel://127.0.0.1:{self.port}/0"

    @property
    def settings(self) -> dict[str, str]:
        """What points a process at it, and has a submit wait until a replica knows of it."""
        return {
            "RYLA_REDIS_URL": self.url,
            "RYLA_SENTINEL_MASTER": MASTER,
            "RYLA_DURABLE_INTENT": "replicas",
            "RYLA_DURABLE_REPLICAS": "1",
            "RYLA_DURABLE_TIMEOUT_S": "0.5",
        }

    def master_port(self) -> int:
        """Where the Sentinel says that the master is."""
        with redis.Redis(port=self.port) as client:
            _host, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
            return int(port)

    def master(self) -> RedisServer:
        port = self.master_port()
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> RedisServer:
        """SIGKILL of the master; returns the dead one when there is another."""
        dead = self.master()
        dead.kill()
        eventually(lambda: self.master_port() != dead.port, timeout=20, what="another master")
        return dead

    def wait_in_step(self, replicas: int = 2) -> None:
        """Until so many replicas follow the master."""
        with redis.Redis.from_url(self.master().url) as client:
            eventually(
                lambda: client.execute_command("WAIT", replicas, 500) >= replicas, timeout=30, what="replicas in step"
            )

    def __enter__(self) -> Self:
        master, *others = (server.start() for server in self.servers)
        for server in others:
            with redis.Redis.from_url(server.url) as client:
                client.replicaof("127.0.0.1", master.port)
        self.wait_for(master)
        return self

    def wait_for(self, master: RedisServer) -> None:
        """Start the Sentinel, and wait until it knows the master's replicas: it could promote none of them before."""
        folder = Path(self._folder.name)
        config = folder / "sentinel.conf"
        config.write_text(_CONFIG.format(port=self.port, folder=folder, master=MASTER, master_port=master.port))
        log = (folder / "log").open("wb")
        self._process = subprocess.Popen([find_server().path, config, "--sentinel"], stdout=log, stderr=log)

        def knows() -> bool:
            try:
                with redis.Redis(port=self.port) as client:
                    about = client.execute_command("SENTINEL", "REPLICAS", MASTER)
                    return len(about) == len(self.servers) - 1
            except redis.ConnectionError:
                return False

        eventually(knows, timeout=30, what="the Sentinel knows the replicas")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        for server in self.servers:
            server.close()
        self._folder.cleanup()
