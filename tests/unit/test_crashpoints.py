"""Crash points: the table is the code's, they do nothing by themselves, and a wrong name is an error."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import ryla_tasks
from ryla_tasks.crashpoints import POINTS, VARIABLE, crashpoint

SOURCES = Path(ryla_tasks.__file__).parent
CALL = re.compile(r"""crashpoint\("(\w+)"\)""")


def run(code: str, wish: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, VARIABLE: wish}
    command = [sys.executable, "-c", f"from ryla_tasks.crashpoints import crashpoint as c\n{code}"]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=SOURCES.parent)


def test_every_point_of_the_table_is_in_the_code_once_and_the_other_way_round() -> None:
    files = [path for path in SOURCES.rglob("*.py") if path.name != "crashpoints.py"]
    found = Counter(name for path in files for name in CALL.findall(path.read_text()))
    assert found == Counter(dict.fromkeys(POINTS, 1))


def test_a_point_that_is_not_turned_on_does_nothing() -> None:
    for name in POINTS:
        crashpoint(name)
    crashpoint("no such point")


def test_the_nth_pass_kills() -> None:
    process = run(
        "for n in range(5): print(n, flush=True); c('before_submit'); c('after_submit_claim')", "before_submit:3"
    )
    out, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert out.split() == [b"0", b"1", b"2"]


def test_freeze_stops_the_process_until_it_is_told_to_go_on() -> None:
    process = run("c('before_submit'); c('before_submit'); print('on')", "before_submit:1:freeze")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=30)
    assert out.split() == [b"on"]


@pytest.mark.parametrize("wish", ["no_such_point", "before_submit:0", "before_submit:x", "before_submit:1:melt", ":"])
def test_a_wish_that_is_not_understood_is_an_error_at_the_start(wish: str) -> None:
    process = run("", wish)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"ConfigurationError" in errors
    assert VARIABLE.encode() in errors
