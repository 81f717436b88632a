"""docs/flask.md, followed to the letter in an empty folder."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import requests

from tests.support.fleet import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "flask.md"
_BLOCK = re.compile(r"```(?:python|html)\n(?:#|<!--) (\S+?\.\w+)(?: -->)?\n(.*?)```", re.DOTALL)


def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    text = PAGE.read_text()
    files = dict(_BLOCK.findall(text))
    assert set(files) == {"app.py", "templates/page.html"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (command,) = re.findall(r"```sh\n(ryla dev .*)\n```", text)
    words = [sys.executable, "-m", "ryla_tasks.cli", *shlex.split(command)[1:], "--json", "--no-flower"]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "RYLA_ENV_FILE": ""}
    process = subprocess.Popen(
        words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)  # type: ignore[union-attr]
    reader.start()
    try:
        ready = json.loads(eventually(lambda: lines[:1], timeout=60, what="ryla dev is ready")[0])
        url = ready["urls"]["web"]

        def answers() -> bool:
            try:
                return requests.get(url, timeout=5).ok
            except requests.ConnectionError:
                assert process.poll() is None, lines
                return False

        eventually(answers, timeout=60, what="the app answers")
        with requests.Session() as browser:
            assert browser.get(f"{url}/ryla/jobs", timeout=10).status_code == 401
            browser.post(f"{url}/sign-in", data={"name": "ann"}, timeout=10)
            assert "Make it" in browser.get(url, timeout=10).text
            wish = {"task": "generate_image", "template": "z-image-turbo", "prompt": "a lighthouse"}
            job = browser.post(f"{url}/ryla/jobs", json=wish, timeout=10).json()
            events = browser.get(f"{url}/ryla/jobs/{job['id']}/events", timeout=60).text
            assert events.rstrip().endswith('data: {"status":"completed"}')
            (file,) = browser.get(f"{url}/ryla/jobs/{job['id']}", timeout=10).json()["files"]
            assert browser.get(url + file["url"], timeout=10).content.startswith(b"\x89PNG")
        eventually(lambda: any(f"Job {job['id']} of ann: completed" in line for line in lines), what="the receiver")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        reader.join(5)
        process.stdout.close()
