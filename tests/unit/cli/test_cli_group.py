"""The command line as a whole: quick help, exit codes, one clear line for each error."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ryla_tasks import errors
from ryla_tasks.cli import cli
from ryla_tasks.cli.exits import EXIT_CODES, Exit, Failure, exit_code, failure

COMMANDS = cli.list_commands(click.Context(cli))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from ryla_tasks.cli import cli\n"
        "result = CliRunner().invoke(cli, ['--help']); assert result.exit_code == 0, result.output\n"
        "import json; print(json.dumps(sorted(name for name in sys.modules if '.' not in name)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        set(json.loads(done.stdout)) & {"celery", "kombu", "redis", "pydantic", "rich", "requests", "aiohttp"} == set()
    )


def test_help_names_every_command_and_exit_code() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert {words[0] for words in lines} >= {*COMMANDS, *(str(int(code)) for code in EXIT_CODES)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str) -> None:
    arguments = [name, "image"] if name == "run" else [name]
    result = CliRunner().invoke(cli, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
    assert "--json" in result.output


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert CliRunner().invoke(cli, ["--version"]).output == f"ryla-tasks {version('ryla-tasks')}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), Exit.CONFIGURATION),
        (errors.Unauthorized("x"), Exit.CONFIGURATION),
        (errors.EndpointNotFound("x"), Exit.CONFIGURATION),
        (ImportError("x"), Exit.CONFIGURATION),
        (errors.InvalidJob("x"), Exit.USAGE),
        (errors.PayloadTooLarge("x"), Exit.USAGE),
        (errors.JobNotFound("x"), Exit.NOT_FOUND),
        (errors.WaitTimeout("x"), Exit.TIMED_OUT),
        (errors.JobCancelled("x"), Exit.FAILED),
        (errors.StoreUnavailable("x"), Exit.UNREACHABLE),
        (errors.EnqueueUnknown("x"), Exit.UNREACHABLE),
        (errors.NotConnected("x"), Exit.UNREACHABLE),
        (errors.RylaError("x"), Exit.FAILED),
        (ZeroDivisionError("x"), None),
    ],
)
def test_exit_codes(error: Exception, code: Exit | None) -> None:
    assert exit_code(error) is code


def test_connection_errors_of_redis_and_celery_are_unreachable() -> None:
    import kombu.exceptions
    import redis.exceptions

    assert exit_code(redis.exceptions.ConnectionError("x")) is Exit.UNREACHABLE
    assert exit_code(kombu.exceptions.OperationalError("x")) is Exit.UNREACHABLE


def test_an_error_in_clicks_clothes_keeps_its_code() -> None:
    error = click.ClickException("wrong")
    assert failure(error) is None
    error.__cause__ = errors.ConfigurationError("wrong", "--config")
    known = failure(error)
    assert known is not None
    assert (known.message, known.exit_code) == ("wrong", Exit.CONFIGURATION)


def test_an_unusable_setting_is_one_line_and_its_traceback_comes_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    from ryla_tasks.settings import reset_settings

    monkeypatch.setenv("RYLA_REDIS_URL", "nonsense")
    reset_settings()
    try:
        plain = CliRunner().invoke(cli, ["endpoints", "--no-health"])
        monkeypatch.setenv("RYLA_DEBUG", "1")
        debug = CliRunner().invoke(cli, ["endpoints", "--no-health"])
    finally:
        monkeypatch.undo()
        reset_settings()
    assert (plain.exit_code, debug.exit_code) == (Exit.CONFIGURATION, Exit.CONFIGURATION)
    assert plain.stderr.startswith("Error: RYLA_REDIS_URL: ")
    assert (plain.stdout, plain.stderr.count("\n")) == ("", 1)
    assert "Traceback" in debug.stderr
    assert debug.stderr.endswith(plain.stderr)


def test_wrong_usage_is_2() -> None:
    for arguments in (["nonsense"], ["show"], ["list", "--status", "lost"], ["run", "image", "--param", "x"]):
        result = CliRunner().invoke(cli, arguments)
        assert (result.exit_code, result.stdout) == (Exit.USAGE, ""), arguments


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("list")
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ryla_tasks.cli.listing.list_", interrupted)
    assert CliRunner().invoke(cli, ["list"]).exit_code == Exit.INTERRUPTED


def test_a_failure_of_several_lines_is_indented() -> None:
    known = failure(errors.ConfigurationError("one\ntwo"))
    assert isinstance(known, Failure)
    assert known.message == "one\n  two"
