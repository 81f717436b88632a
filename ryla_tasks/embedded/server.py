"""A Redis-compatible server on this machine, for as long as the process that starts it needs one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ryla_tasks.embedded.binary import ServerBinary, find_server
from ryla_tasks.embedded.folder import DataFolder
from ryla_tasks.embedded.ports import HOST, free_port
from ryla_tasks.embedded.watchdog import Watchdog
from ryla_tasks.errors import StoreUnavailable

__all__ = ["RedisServer"]

_START_TRIES = 5
_TAIL_LINES = 12


class _EndedEarly(StoreUnavailable):
    """The server ended while starting, perhaps because another program was faster to its port."""


class _Run(NamedTuple):
    process: subprocess.Popen[bytes]
    watchdog: Watchdog


class RedisServer:
    """A Redis or Valkey server of one's own, on 127.0.0.1, with its append-only file on.

        with RedisServer() as server:
            redis.Redis.from_url(server.url).ping()

    It is not for production: it ends with the process that started it, even when that is killed (see `Watchdog`),
    and it is reached from this machine only.

    `folder` holds data and log; by default it is a temporary one, removed by `close`. Data in a named folder is there
    again at the next start. `fsync` says when a write is on disk: `everysec` may lose the last second in a power cut,
    `always` loses nothing and is slower; neither loses anything when only the server dies. `binary` names the
    server program (see `find_server`). `config` is further lines of the server's configuration, by name, each with one
    value. A start may take `start_patience_s` seconds and a stop `stop_patience_s`; as long is waited for another
    server that is about to leave the folder.

    Nothing runs before `start`. Safe for use by many threads.

    Raises `ConfigurationError` when there is no server program, and at `start` when another server has the folder;
    `StoreUnavailable` when the server does not come up, with the end of its log.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        port: int | None = None,
        password: str | None = None,
        fsync: Literal["everysec", "always", "no"] = "everysec",
        binary: str | Path | None = None,
        config: Mapping[str, str] | None = None,
        start_patience_s: float = 30,
        stop_patience_s: float = 10,
    ) -> None:
        self.binary: ServerBinary = find_server(binary)
        self._folder = DataFolder(folder)
        self._wanted_port = port
        self._password = password
        self._fsync = fsync
        self._config = dict(config or {})
        self._start_patience_s = start_patience_s
        self._stop_patience_s = stop_patience_s
        self._port: int | None = None
        self._run: _Run | None = None
        self._lock = threading.RLock()

    @property
    def folder(self) -> Path:
        """Where data and log are."""
        return self._folder.path

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self.folder / "server.log"

    @property
    def port(self) -> int:
        """The port, which stays the same over `stop` and `start`. Raises `StoreUnavailable` before the first start."""
        if self._port is None:
            raise StoreUnavailable("the embedded Redis was not started yet")
        return self._port

    @property
    def url(self) -> str:
        """The address for clients, with the password if there is one."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        run = self._run
        if run is None:
            return None
        if run.process.poll() is None:
            return run.process.pid
        run.watchdog.dismiss()
        return None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def start(self) -> Self:
        """Start the server and wait until it answers; does nothing while it runs.

        After `stop` or `kill` it comes back on the same port, with the data that its append-only file holds.
        """
        with self._lock:
            if self.running:
                return self
            for tries_left in reversed(range(_START_TRIES)):
                port = self._port or self._wanted_port or free_port()
                try:
                    self._start_on(port)
                except _EndedEarly:
                    if not tries_left:
                        raise
                    time.sleep(0.1)
                else:
                    self._port = port
                    break
            return self

    def stop(self) -> None:
        """Stop the server as an administrator would: SIGTERM, so that it closes its append-only file, and SIGKILL when
        it has not ended `stop_patience_s` seconds later. Its data stays; `start` brings it back."""
        with self._lock:
            if self._run is not None:
                self._run.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._run.process.wait(self._stop_patience_s)
            self.kill()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would. Its data stays; `start` brings it back."""
        with self._lock:
            if self._run is not None:
                self._run.process.kill()
                self._run.process.wait()
                self._run.watchdog.dismiss()
                self._run = None

    def close(self) -> None:
        """Stop the server and remove its folder if that is a temporary one. It cannot be started again then."""
        with self._lock:
            self.stop()
            self._folder.remove_if_temporary()

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of the server's log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_on(self, port: int) -> None:
        lock = self._folder.lock(self._stop_patience_s)
        try:
            process = self._spawn(port, lock)
        finally:
            os.close(lock)
        try:
            watchdog = Watchdog(process.pid, self.folder if self._folder.temporary else None)
        except BaseException:
            process.kill()
            process.wait()
            raise
        self._run = _Run(process, watchdog)
        try:
            self._wait_until_ready(process, port)
        except BaseException:
            self.kill()
            raise

    def _spawn(self, port: int, lock: int) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                # "-": the configuration comes from standard input, where no list of processes shows the password.
                [self.binary.path, "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                pass_fds=(lock,),
                # Ctrl-C in a terminal reaches the programs around the server, which still need it to end well.
                start_new_session=True,
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as configuration:
            configuration.write(self._configuration(port).encode())
        return process

    def _configuration(self, port: int) -> str:
        options = {
            "bind": HOST,
            "port": str(port),
            "dir": str(self.folder),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "maxmemory-policy": "noeviction",
            **({"requirepass": self._password} if self._password else {}),
            **self._config,
        }
        return "".join(f"{name} {_quoted(value)}\n" for name, value in options.items())

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int) -> None:
        give_up = time.monotonic() + self._start_patience_s
        once = Retry(NoBackoff(), 0)
        with redis.Redis(host=HOST, port=port, password=self._password, socket_timeout=1, retry=once) as client:
            while process.poll() is None:
                if _answers_as(process.pid, client):
                    return
                if time.monotonic() >= give_up:
                    raise StoreUnavailable(self._complaint(f"did not answer within {self._start_patience_s:g} s"))
                time.sleep(0.01)
        code = process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise _EndedEarly(self._complaint(f"ended while starting ({how})"))

    def _complaint(self, what: str) -> str:
        return f"the embedded Redis ({self.binary.path}) {what}. The end of its log:\n{self.log_tail()}"


def _answers_as(pid: int, client: redis.Redis) -> bool:
    """Whether this very process answers: on the port may be another server that was faster to it."""
    try:
        client.ping()
        return int(client.info("server")["process_id"]) == pid
    except redis.RedisError:
        return False


def _quoted(value: str) -> str:
    """A value as the server's configuration reads it back, whatever characters it has."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in value.encode()) + '"'
