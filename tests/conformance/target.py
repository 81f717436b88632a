"""What the suite runs against: a simulator with real workers, or RunPod."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from ryla_tasks.simulator import EndpointConfig, RunningSimulator, Simulator, SimulatorConfig

__all__ = ["ENDED", "Endpoint", "Target", "live_target", "needs", "simulated_target"]

HANDLER = Path(__file__).with_name("handler.py")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


@dataclass(frozen=True)
class Target:
    """Two endpoints of one API, and how long one may have to wait for a worker there."""

    live: bool
    echo: Endpoint
    stream: Endpoint | None


@dataclass(frozen=True)
class Endpoint:
    """One queue endpoint, called as plainly as can be."""

    base_url: str
    endpoint_id: str
    key: str
    patience_s: float
    socket_url: str

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> requests.Response:
        return requests.request(
            method,
            f"{self.base_url}/{self.endpoint_id}/{path}",
            headers={"Authorization": f"Bearer {key or self.key}"},
            json=body,
            timeout=self.patience_s,
        )

    def run(self, job_input: dict[str, Any], **options: Any) -> str:
        answer = self.call("POST", "run", {"input": job_input, **options})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"status/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def when(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """The first answer with one of these statuses."""
        until = time.monotonic() + self.patience_s
        while (seen := self.status(job_id))["status"] not in statuses:
            assert seen["status"] not in ENDED, seen
            assert time.monotonic() < until, seen
            time.sleep(self.pause_s)
        return seen

    def ended(self, job_id: str) -> dict[str, Any]:
        return self.when(job_id, *ENDED)

    @property
    def pause_s(self) -> float:
        return 1.0 if self.base_url.startswith("https") else 0.05

    def open_web_socket(self) -> tuple[int, Any]:
        """Ask for a WebSocket; the status and the JSON of the answer."""
        url = urlsplit(self.socket_url)
        port = url.port or (443 if url.scheme == "https" else 80)
        connection: socket.socket = socket.create_connection((str(url.hostname), port), timeout=20)
        with connection:
            if url.scheme == "https":
                connection = ssl.create_default_context().wrap_socket(connection, server_hostname=url.hostname)
            connection.sendall(
                f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {self.key}\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            with connection.makefile("rb") as answer:
                status = int(answer.readline().split()[1])
                headers = dict(line.decode().lower().strip().split(": ", 1) for line in iter(answer.readline, b"\r\n"))
                body = answer.read(int(headers["content-length"])) if "content-length" in headers else answer.read()
        return status, json.loads(body)


def live_target() -> Target | None:
    """RunPod, where the environment says so."""
    key, endpoint_id = os.environ.get("RUNPOD_API_KEY"), os.environ.get("RYLA_CONFORMANCE_ENDPOINT")
    if not key or not endpoint_id:
        return None

    def endpoint(one_id: str) -> Endpoint:
        return Endpoint("https://api.runpod.ai/v2", one_id, key, 300.0, f"https://{one_id}.api.runpod.ai/ws")

    stream_id = os.environ.get("RYLA_CONFORMANCE_STREAM_ENDPOINT")
    return Target(live=True, echo=endpoint(endpoint_id), stream=endpoint(stream_id) if stream_id else None)


@contextmanager
def simulated_target(folder: Path) -> Iterator[Target]:
    """A simulator, with the handler as real workers on the `runpod` SDK."""
    names = ("echo", "stream")
    endpoints = tuple(EndpointConfig(endpoint_id=name, joined=True, ping_interval_s=1, lease_s=3) for name in names)
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator.running(SimulatorConfig(endpoints=endpoints)))
        for name in names:
            stack.enter_context(_worker(simulator, name, folder))
        echo, stream = (
            Endpoint(simulator.base_url, name, simulator.key, 30.0, f"{simulator.base_url}/{name}/ws") for name in names
        )
        yield Target(live=False, echo=echo, stream=stream)


@contextmanager
def _worker(simulator: RunningSimulator, endpoint_id: str, folder: Path) -> Iterator[None]:
    environment = {**os.environ, **simulator.worker_env(endpoint_id, f"worker-{endpoint_id}"), "HOME": str(folder)}
    with (folder / f"{endpoint_id}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(HANDLER), *(["stream"] if endpoint_id == "stream" else [])],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def needs(target: Target, *, simulator: bool) -> None:
    """Leave a test out where it cannot, or must not, be run."""
    if simulator and target.live:
        pytest.skip("not against a live endpoint: it would touch the jobs of others, or needs an address of ours")
