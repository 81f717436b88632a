"""A stand-in ComfyUI in a process of its own, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

__all__ = ["ComfyProcess", "command"]

ROOT = Path(__file__).parents[3]


def command(base: Path, *arguments: str) -> list[str]:
    """What starts a stand-in that keeps its files in `base`."""
    return [sys.executable, "-m", "tests.support.comfyui", "--base", str(base), *arguments]


class ComfyProcess:
    """Started, and listening. `kill` is SIGKILL; `start` brings it back at the same address, with nothing in mind."""

    def __init__(self, base: Path, *arguments: str) -> None:
        self.base = base
        self._arguments = arguments
        self._port = 0
        self.url = ""
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            command(self.base, "--port", str(self._port), *self._arguments),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.url
        self._port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def seen(self) -> dict[str, Any]:
        """What was asked of it."""
        return look(self.url)

    def control(self, **orders: Any) -> None:
        control(self.url, **orders)


def look(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/_standin", timeout=5) as answer:
        seen: dict[str, Any] = json.load(answer)
        return seen


def control(url: str, **orders: Any) -> None:
    request = urllib.request.Request(f"{url}/_standin", json.dumps(orders).encode())
    urllib.request.urlopen(request, timeout=5).close()
