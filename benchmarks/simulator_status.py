"""How many /status calls a second the simulator answers on one core, with ten thousand jobs in flight.

The simulator is a process of its own. The client writes raw requests on keep-alive connections and reads raw
answers, so that it costs as little as it can; both processes' CPU time is in the result. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import selectors
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import psutil

KEY = "benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    config = {
        "port": 0,
        "keys": [KEY],
        "endpoints": [
            {
                "endpoint_id": "bench",
                "program": "echo",
                "workers_min": options.jobs,
                "workers_max": options.jobs,
                "cold_start_s": 0,
                "run_s": 3600,
                "execution_timeout_s": 7200,
                "rate_limits": False,
            },
        ],
    }
    code = (
        "import sys, asyncio, json; from ryla_tasks.simulator import Simulator, SimulatorConfig\n"
        "async def serve():\n"
        "    simulator = Simulator(SimulatorConfig.model_validate_json(sys.argv[1]))\n"
        "    await simulator.start(); print(simulator.url, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(serve())"
    )
    server = subprocess.Popen([sys.executable, "-c", code, json.dumps(config)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = urlsplit(server.stdout.readline().strip())
        print(json.dumps(measure(psutil.Process(server.pid), address.hostname or "", address.port or 0, options)))
    finally:
        server.terminate()
        server.wait()


def measure(server: psutil.Process, host: str, port: int, options: argparse.Namespace) -> dict[str, object]:
    connections = [socket.create_connection((host, port)) for _ in range(options.connections)]
    began = time.perf_counter()
    ids = submit(connections[0], options.jobs)
    submitted = time.perf_counter() - began
    requests = [request("GET", f"/v2/bench/status/{job_id}") for job_id in ids]
    drive(connections, requests, 0.5)
    cpu, own, began = cpu_seconds(server), time.process_time(), time.perf_counter()
    calls = drive(connections, requests, options.seconds)
    wall = time.perf_counter() - began
    server_cpu = cpu_seconds(server) - cpu
    return {
        "benchmark": "simulator_status",
        "jobs_in_flight": options.jobs,
        "connections": options.connections,
        "calls": calls,
        "wall_s": round(wall, 3),
        "calls_per_s": round(calls / wall),
        "server_cpu_s": round(server_cpu, 3),
        "calls_per_server_cpu_s": round(calls / server_cpu),
        "client_cpu_s": round(time.process_time() - own, 3),
        "submits_per_s": round(options.jobs / submitted),
        "server_rss_mb": round(server.memory_info().rss / 1e6),
    }


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def submit(connection: socket.socket, jobs: int) -> list[str]:
    ids = []
    for number in range(jobs):
        body = json.dumps({"input": {"n": number}}).encode()
        connection.sendall(request("POST", "/v2/bench/run", body))
        ids.append(json.loads(read(connection).partition(b"\r\n\r\n")[2])["id"])
    return ids


def read(connection: socket.socket) -> bytes:
    """One whole answer."""
    data = connection.recv(65_536)
    while not whole(data):
        more = connection.recv(65_536)
        if not more:
            raise ConnectionError("the simulator hung up")
        data += more
    if not data.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(data[:200].decode(errors="replace"))
    return data


def whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


def drive(connections: list[socket.socket], requests: list[bytes], seconds: float) -> int:
    """Keep one call in flight on each connection; returns how many were answered with 200."""
    selector = selectors.DefaultSelector()
    calls = 0
    for connection in connections:
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(requests[calls % len(requests)])
        calls += 1
    answered, until = 0, time.perf_counter() + seconds
    while answered < calls:
        for key, _ in selector.select():
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            read(connection)
            answered += 1
            if time.perf_counter() < until:
                connection.sendall(requests[calls % len(requests)])
                calls += 1
    selector.close()
    return answered


if __name__ == "__main__":
    main()
