"""docs/django.md, followed literally in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from ryla_tasks.embedded.ports import free_port
from tests.support.fleet import eventually
from tests.support.pages import ROOT, examples

PAGE = (ROOT / "docs/django.md").read_text()

#: What the reader types, in order; the two that stay are run by the test itself, and pip has been.
TYPED = [line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()]


def environment(**more: str) -> dict[str, str]:
    """A reader's, who has installed the package."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("RYLA_", "RUNPOD_", "DJANGO_"))}
    return {
        **mine,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SUPERUSER_USERNAME": "ann",
        "DJANGO_SUPERUSER_PASSWORD": "secret",
        "DJANGO_SUPERUSER_EMAIL": "ann@example.org",
        **more,
    }


def type_in(folder: Path, line: str) -> str:
    """Run a line in the folder."""
    words = shlex.split(line)
    program = {"python": [sys.executable], "django-admin": [sys.executable, "-m", "django"]}[words[0]]
    if "createsuperuser" in words:
        words.append("--noinput")
    done = subprocess.run(
        [*program, *words[1:]], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, line + done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(folder: Path, *words: str, **env: str) -> Iterator[Any]:
    """One of the lines that stay; its lines of output."""
    with (folder / f"{words[0]}.log").open("wb+") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", *words],
            cwd=folder, env=environment(**env), stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield lambda: (folder / f"{words[0]}.log").read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    assert TYPED[1:3] == ["django-admin startproject gallery .", "python manage.py startapp pictures"]
    for line in TYPED[1:3]:
        type_in(tmp_path, line)
    for name, text in examples("django").items():
        path = tmp_path / name.removesuffix(", at its end")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + text if name.endswith(", at its end") else text)
    assert [line.split()[2] for line in TYPED[3:7]] == ["makemigrations", "migrate", "createsuperuser", "check"]
    for line in TYPED[3:7]:
        type_in(tmp_path, line)
    assert TYPED[7:] == ["python manage.py ryla dev", "RYLA_ENV_FILE=ryla-dev/env python manage.py runserver"]
    port = free_port()
    with running(tmp_path, "ryla", "dev", "--json", "--no-flower", "--simulator-port", str(free_port())) as said:
        eventually(lambda: '"type": "ready"' in said() or '"type":"ready"' in said(), timeout=40, what="dev is ready")
        with running(tmp_path, "runserver", str(port), "--noreload", RYLA_ENV_FILE="ryla-dev/env"):
            look_at_it(tmp_path, f"http://127.0.0.1:{port}")
        told = [json.loads(line) for line in said().splitlines() if line.startswith("{")]
        assert not [line for line in told if "Traceback" in str(line)]


def look_at_it(folder: Path, url: str) -> None:
    with requests.Session() as ann:
        eventually(lambda: answers(ann, url), timeout=40, what="the site answers")
        post(ann, f"{url}/admin/login/?next=/", username="ann", password="secret")
        refused = post(ann, url, prompt="")
        assert "prompt" in re.sub(r"<(?!p role).*?>", "", refused.text)
        page = post(ann, url, prompt="a lighthouse")
        (job,) = re.findall(r'data-job="([^"]+)"', page.text)
        assert ann.get(f"{url}/ryla/jobs/{job}").json()["status"] in ("queued", "submitting", "waiting", "starting")
        with ann.get(f"{url}/ryla/jobs/{job}/events", stream=True, timeout=60) as events:
            assert "event: end" in events.text
        page = eventually(lambda: done(ann.get(url).text), what="the row is saved")
        (picture,) = re.findall(r'<img src="([^"]+)"', page)
        assert ann.get(url + picture).headers["Content-Type"] == "image/png"
        assert job in ann.get(f"{url}/admin/ryla/job/").text


def done(page: str) -> str:
    return page if "<img" in page else ""


def answers(ann: requests.Session, url: str) -> bool:
    try:
        return ann.get(f"{url}/admin/login/", timeout=10).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


def post(ann: requests.Session, url: str, **form: str) -> requests.Response:
    """Send a form of the page, with its token."""
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', ann.get(url).text)
    answer = ann.post(url, data={**form, "csrfmiddlewaretoken": token})
    assert answer.ok, answer.text
    return answer
