"""What one status call costs in CPU time: our client, beside the ways of `requests` that people use.

    python benchmarks/status_call.py [--calls 3000] [--threads 16] [--rounds 5]

A server of its own process answers over loopback with keep-alive, so that its CPU time is not counted; what is
counted is the process time of this one (user and system, all threads). Each way parses the JSON; ours also builds
the `RemoteJob`. The ways take turns in rounds, and the best round counts, which is the one least disturbed.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any

import requests

from ryla_tasks.providers.runpod import RunPod

BODY = json.dumps(
    {
        "delayTime": 1204,
        "executionTime": 5120,
        "id": "c80ffee4-f315-4e25-a146-0f3d98cf024b-u1",
        "output": {"phase": "sampling", "step": 7, "steps": 20, "percent": 35},
        "status": "IN_PROGRESS",
        "workerId": "462u6mrq9s28h6",
    }
).encode()
# As many headers as RunPod sends through its CDN, or the cost of parsing them would not show.
HEADERS = {
    "Date": "Thu, 01 Jan 2026 00:00:00 GMT",
    "Content-Type": "application/json",
    "Content-Length": str(len(BODY)),
    "Connection": "keep-alive",
    "Server": "cloudflare",
    "CF-RAY": "8f0000000000abcd-FRA",
    "CF-Cache-Status": "DYNAMIC",
    "Vary": "Origin",
}
ANSWER = b"HTTP/1.1 200 OK\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HEADERS.items()).encode() + b"\r\n" + BODY
JOB = "c80ffee4-f315-4e25-a146-0f3d98cf024b-u1"
KEY = "benchmark"


def serve(ready: Connection) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    ready.send(listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(sock,), daemon=True).start()


def answer(sock: socket.socket) -> None:
    unread = b""
    while data := sock.recv(65536):
        *whole, unread = (unread + data).split(b"\r\n\r\n")
        for _ in whole:
            sock.sendall(ANSWER)


def ways(port: int, threads: int) -> dict[str, Callable[[], Any]]:
    base = f"http://127.0.0.1:{port}/v2"
    url = f"{base}/ep1/status/{JOB}"
    ours = RunPod(KEY, base, pool_size=threads)

    def session(trust_env: bool) -> requests.Session:
        made = requests.Session()
        made.trust_env = trust_env
        made.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=threads))
        made.headers["Authorization"] = f"Bearer {KEY}"
        return made

    plain, quiet = session(True), session(False)
    return {
        "ryla_tasks RunPod.status, patient=False": lambda: ours.status("ep1", JOB, max_bytes=65536, patient=False),
        "ryla_tasks RunPod.status": lambda: ours.status("ep1", JOB, max_bytes=65536),
        "requests session.get(url).json()": lambda: plain.get(url, timeout=(5, 15)).json(),
        "requests session.get(url).json(), trust_env off": lambda: quiet.get(url, timeout=(5, 15)).json(),
        "requests.get(url).json(), no session": lambda: requests.get(
            url, headers={"Authorization": f"Bearer {KEY}"}, timeout=(5, 15)
        ).json(),
    }


def measure(call: Callable[[], Any], calls: int, threads: int) -> dict[str, float]:
    def some(count: int) -> None:
        for _ in range(count):
            call()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, [5] * threads))
        wall, cpu = time.perf_counter(), time.process_time()
        list(pool.map(some, [calls // threads] * threads))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    done = calls // threads * threads
    return {"cpu_ms": round(cpu / done * 1000, 4), "calls_per_s": round(done / wall)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        port = here.recv()
        results: dict[str, dict[str, dict[str, float]]] = {}
        for threads in sorted({1, options.threads}):
            candidates = ways(port, threads)
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in candidates}
            for _ in range(options.rounds):
                for name, call in candidates.items():
                    rounds[name].append(measure(call, options.calls // options.rounds, threads))
            results[f"{threads} threads"] = {
                name: min(measured, key=lambda result: result["cpu_ms"]) for name, measured in rounds.items()
            }
    finally:
        server.terminate()
        server.join()
    versions = {name: version(name) for name in ("requests", "urllib3")} | {"python": platform.python_version()}
    print(json.dumps({"per_call": results, "calls": options.calls, "versions": versions}, indent=2))


if __name__ == "__main__":
    main()
