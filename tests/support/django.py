"""The Django project of tests/support/django_site, with its database, and servers and processes that run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from ryla_tasks.embedded.ports import free_port
from tests.conftest import QUICK
from tests.support.fleet import Fleet, WorkerProcess, eventually

__all__ = ["SECRET", "Browser", "Calls", "Site"]

SECRET = "a-long-random-text-for-tests"


class Site:
    """The project, with a database of its own (see django_site/make.py for who is in it)."""

    def __init__(self, fleet: Fleet, folder: Path, **env: str) -> None:
        self.fleet = fleet
        self.folder = folder
        self.database = folder / "site.sqlite"
        self.env = {
            "DJANGO_SETTINGS_MODULE": "tests.support.django_site.settings",
            "SITE_DATABASE": str(self.database),
            **env,
        }
        self._run("tests.support.django_site.make")

    def manage(self, *words: str, check: bool = True, **env: str) -> str:
        """Run a command of Django's; what it says."""
        return self._run("django", *words, check=check, **env)

    def _run(self, module: str, *words: str, check: bool = True, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            env=self.fleet.env(**{**self.env, **env}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def worker(self, **env: str) -> WorkerProcess:
        """A Celery worker that has the project, ready; it is stopped with the fleet's."""
        started = self.fleet.worker(
            "--concurrency", "4", app="ryla_tasks.contrib.django.worker_app", **{**self.env, **QUICK, **env}
        )  # fmt: skip
        return started.wait_ready(60)

    @contextmanager
    def served(self, kind: str, **env: str) -> Iterator[str]:
        """Its address, served by `gunicorn` (threads) or `uvicorn` (ASGI), in one process."""
        port = free_port()
        site = "tests.support.django_site"
        command = {
            "gunicorn": ["gunicorn", f"{site}.wsgi", "-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads", "12"],
            "uvicorn": ["uvicorn", f"{site}.asgi:application", "--port", str(port), "--lifespan", "off"],
        }[kind]
        log = self.folder / f"{kind}.log"
        with log.open("ab") as out:
            server = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=self.fleet.env(**{**self.env, "RYLA_WEB_STREAMS": "6", "RYLA_WEBHOOK_SECRET": SECRET, **env}),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: server.poll() is not None or _answers(url), timeout=60, what=f"{kind} answers")
            assert server.poll() is None, log.read_text()
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/token", timeout=10).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


class Browser(requests.Session):
    """Somebody at a site: signed in, or nobody."""

    def __init__(self, url: str, name: str = "") -> None:
        super().__init__()
        # A server may close a connection whose request's body it has refused to read.
        self.headers["Connection"] = "close"
        self.url = url
        if name:
            form = {"username": name, "password": "secret", "csrfmiddlewaretoken": self.token()}
            answer = self.post(f"{url}/sign-in", data=form)
            assert answer.status_code == 204, answer.text[:500]

    def token(self) -> str:
        """A CSRF token, as a page would have it."""
        return self.get(f"{self.url}/token").text

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """A call as ryla.js makes it."""
        headers = {"X-CSRFToken": self.token() if method == "POST" else "", **more.pop("headers", {})}
        return self.request(method, f"{self.url}/ryla/{path}", headers=headers, timeout=30, **more)

    def ask(self, **wish: Any) -> dict[str, Any]:
        """A job that was taken."""
        answer = self.call("POST", "jobs", json={"task": "echo", **wish})
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def follow(self, job_id: str, after: str = "", most: int = 1000) -> tuple[list[tuple[str, str]], str]:
        """The events of a job as `(position, data)`, until the stream ends or there are `most`; and the last event's
        name, empty where the stream was left before."""
        headers = {"Last-Event-ID": after} if after else {}
        events: list[tuple[str, str]] = []
        with self.get(f"{self.url}/ryla/jobs/{job_id}/events", headers=headers, stream=True, timeout=30) as answer:
            if answer.status_code == 204:
                return [], "over"
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Type"] == "text/event-stream"
            for block in _blocks(answer):
                if block.startswith("event: end"):
                    return events, "end"
                if found := re.match(r"id: (\S+)\ndata: (.*)", block):
                    events.append((found[1], found[2]))
                if len(events) >= most:
                    return events, ""
        return events, ""


def _blocks(answer: requests.Response) -> Iterator[str]:
    text = ""
    for piece in answer.iter_content(None):
        text += piece.decode()
        while "\n\n" in text:
            block, text = text.split("\n\n", 1)
            yield block


class Calls:
    """A Django process that does what is asked (see django_site/calls.py). A context manager."""

    def __init__(self, site: Site, **env: str) -> None:
        self.log = site.folder / "calls.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.django_site.calls"],
                env=site.fleet.env(**{**site.env, **env}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Calls:
        return self

    def __exit__(self, *_more: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def __call__(self, name: str, **arguments: Any) -> Any:
        """The value; raises `AssertionError` with the error's name and words."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        told = json.loads(line)
        assert "value" in told, f"{told['error']}: {told['message']}"
        return told["value"]
