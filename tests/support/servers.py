"""Real web servers, each a process of its own: what is proved of streams is proved through them."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from ryla_tasks.embedded.ports import free_port
from tests.support.fleet import eventually

__all__ = ["COMMANDS", "Frame", "Server", "Stream", "read_stream"]

#: Asked to end, gunicorn waits for open streams, by default for 30 s.
_GUNICORN = ["gunicorn", "--graceful-timeout", "1", "-b", "127.0.0.1:{port}", "{factory}()"]

#: How each server is started.
COMMANDS = {
    "gthread": [*_GUNICORN, "-k", "gthread", "--threads", "6"],
    "gevent": [*_GUNICORN, "-k", "gevent"],
    "sync": [*_GUNICORN, "-k", "sync"],
    "dev": ["flask", "--app", "{factory}", "run", "--port", "{port}"],
}

FLASK_APP = "tests.support.flask_app:create_app"


class Server:
    """A web server of one of these kinds; ready when made."""

    def __init__(
        self, kind: str, env: dict[str, str], log: Path, *, factory: str = FLASK_APP, port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.log = log
        command = [part.format(port=self.port, factory=factory) for part in COMMANDS[kind]]
        self._file = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command], env=env, stdout=self._file, stderr=subprocess.STDOUT
        )
        eventually(self._answers, timeout=30, every=0.05, what=f"{kind} answers")

    def _answers(self) -> bool:
        """Whether the app is there: gunicorn listens before it has one."""
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.get("/", "").status > 0
        except (OSError, http.client.HTTPException):
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, user: str = "ann", timeout: float = 20) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request("GET", path, headers={"X-User": user} if user else {})
        return connection.getresponse()

    def stop(self) -> None:
        """As a deploy does: ask, and not wait for ever."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._file.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exc: BaseException | type[BaseException] | TracebackType | None) -> None:
        self.stop()


class Frame(dict[str, Any]):
    """One event of a stream: `id`, `event` and `data`."""


class Stream:
    """An open stream of events."""

    def __init__(self, server: Server, path: str, *, last: str = "", user: str = "ann", timeout: float = 20) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
        headers = {"X-User": user, "Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        self._connection.request("GET", path, headers=headers)
        self.answer = self._connection.getresponse()

    @property
    def status(self) -> int:
        return self.answer.status

    def frame(self) -> Frame | None:
        """The next event; None where the server has ended the stream, or is gone."""
        fields: Frame = Frame(event="message")
        try:
            while line := self.answer.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    fields["data"] = json.loads(fields["data"])
                    return fields
        except (OSError, http.client.HTTPException):
            pass
        return None

    def close(self) -> None:
        self._connection.close()
        self.answer.close()


def read_stream(stream: Stream) -> list[Frame]:
    """All that comes until the server ends it."""
    frames = []
    while (frame := stream.frame()) is not None:
        frames.append(frame)
    stream.close()
    return frames
