"""Lines of the log: what they say of a job, and what they cannot be made to say."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryla_tasks.jobs.record import JobRecord, JobSpec
from ryla_tasks.logs import Log, about
from ryla_tasks.logs.formats import ConsoleLines, JsonLines
from ryla_tasks.logs.setup import CONSOLE

log = Log("ryla_tasks.tests")

RECORD = JobRecord(
    "j1", JobSpec("t", "image", "image", user_id="u1"), target="runpod:img", attempt=2, remote_id="r-1"
)  # fmt: skip
ALL = {"job": "j1", "user": "u1", "endpoint": "image", "target": "runpod:img", "attempt": 2, "remote": "r-1"}


def said(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    return caplog.records[-1]


def as_json(record: logging.LogRecord) -> dict[str, object]:
    text = JsonLines().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_line_about_a_job_says_which_and_where(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("collect.failed", RECORD, error="no room")
    assert said(caplog).getMessage() == (
        'collect.failed job=j1 user=u1 endpoint=image target=runpod:img attempt=2 remote=r-1 error="no room"'
    )
    found = as_json(said(caplog))
    assert ALL.items() <= found.items()
    assert found["event"] == found["message"] == "collect.failed"
    assert found["error"] == "no room"
    assert found["level"] == "WARNING"
    assert str(found["time"]).endswith("+00:00")


def test_what_a_job_does_not_have_yet_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("message.not_sent", JobRecord("j1", JobSpec("t", "image", "image")), what="submit")
    assert said(caplog).getMessage() == "message.not_sent job=j1 endpoint=image what=submit"


def test_within_a_job_lines_name_it(caplog: pytest.LogCaptureFixture) -> None:
    with about(RECORD):
        log.warning("cancel.sent")
        assert ALL.items() <= vars(said(caplog)).items()
        log.warning("message.not_sent", "j1")
        assert ALL.items() <= vars(said(caplog)).items()
        log.warning("message.not_sent", "another")
        assert not hasattr(said(caplog), "user")
    log.warning("sweep.failed")
    assert not hasattr(said(caplog), "job")


@given(user=st.text(min_size=1), word=st.text())
def test_no_text_makes_a_second_line_or_another_field(user: str, word: str) -> None:
    heard: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = heard.append  # type: ignore[method-assign]
    logger = logging.getLogger("ryla_tasks.tests")
    logger.addHandler(handler)
    try:
        log.warning("collect.failed", JobRecord("j1", JobSpec("t", "k", "image", user_id=user)), error=word, last=1)
    finally:
        logger.removeHandler(handler)
    line = ConsoleLines(CONSOLE, use_color=False).format(heard[0])
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    # Read again as it is written: each field is a plain word or a JSON string.
    rest, found = line.partition(" endpoint=")[0].partition(" user=")[2], line.endswith(" last=1")
    assert found
    assert rest == user or json.loads(rest) == user
    assert as_json(heard[0])["user"] == user


def test_secrets_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("https://bucket.example/in.png?X-Amz-Signature=topsecret and Bearer topsecret\nforged line")
    except ValueError as error:
        log.exception("poll.broken", error=error, more={"url": "https://a.example/?sig=topsecret"})
    record = said(caplog)
    console = ConsoleLines(CONSOLE, use_color=False).format(record)
    for text in (record.getMessage(), console, JsonLines().format(record)):
        assert "topsecret" not in text
    assert "https://bucket.example/..." in console
    first, *others = console.splitlines()
    assert "poll.broken" in first
    assert all(line.startswith("    | ") for line in others)
    assert "Traceback" in str(as_json(record)["exc_info"])


def test_lines_of_others_are_lines_as_well() -> None:
    def made(message: str, *args: object, **extra: object) -> logging.LogRecord:
        record = logging.LogRecord("celery.app.trace", logging.INFO, "", 1, message, args, None)
        vars(record).update(extra)
        return record

    record = made("Task %(name)s[%(id)s] received", {"name": "t", "id": "j1\nforged"}, data={"name": "t", "id": "j1",
                  "args": "('a prompt',)"})  # fmt: skip
    found = as_json(record)
    assert (found["task"], found["job"]) == ("t", "j1")
    assert "a prompt" not in str(found)
    assert ConsoleLines(CONSOLE, use_color=False).format(record).splitlines()[0].endswith("[j1\\nforged] received")


def test_a_traceback_is_of_this_line_alone(caplog: pytest.LogCaptureFixture) -> None:
    formatter = ConsoleLines(CONSOLE, use_color=False)
    try:
        raise ValueError
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "first", (), sys.exc_info())
    assert "Traceback" in formatter.format(record)
    assert record.exc_text is None
    assert formatter.format(logging.LogRecord("x", logging.ERROR, "", 1, "second", (), None)).endswith("second")


def test_a_program_that_asks_logs_in_our_format_and_no_library_tells_what_it_calls() -> None:
    program = """
import logging
from ryla_tasks.logs.setup import use_format
use_format(level="DEBUG")
logging.getLogger("ryla_tasks.x").debug("mine")
logging.getLogger("urllib3.connectionpool").debug("GET /in.png?X-Amz-Signature=topsecret")
"""
    env = {"RYLA_LOG_FORMAT": "json", "RYLA_ENV_FILE": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["mine"]
