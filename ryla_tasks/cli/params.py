"""Parameters of templates on the command line: NAME=VALUE, files as images, JSON from files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ryla_tasks.errors import InvalidJob

__all__ = ["asked_for", "param_options", "parse_json", "read_json"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("-p", "--prompt", help="The template's parameter `prompt`: what the image shows."),
    click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of the template, as JSON or as plain text; may be repeated.",
    ),
    click.option(
        "--image",
        "images",
        multiple=True,
        metavar="NAME=FILE",
        help="An image parameter of the template, from a file on this machine; may be repeated.",
    ),
)


def param_options(function: F) -> F:
    """The options `--prompt`, `--param` and `--image`, for `asked_for`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def asked_for(prompt: str | None, params: tuple[str, ...], images: tuple[str, ...]) -> dict[str, Any]:
    """The parameters that these options give. Raises `InvalidJob` for a file that cannot be read."""
    asked = dict(_param(one) for one in params)
    asked |= dict(_image(one) for one in images)
    return asked if prompt is None else {**asked, "prompt": prompt}


def read_json(path: Path, what: str) -> Any:
    """The JSON in a file. Raises `InvalidJob`, which begins with `what`."""
    try:
        return parse_json(path.read_text(encoding="utf-8"), what)
    except OSError as error:
        raise InvalidJob(f"{what}: {path}: {error.strerror}", field=what) from error
    except UnicodeDecodeError as error:
        raise InvalidJob(f"{what}: {path}: is not JSON: it is not text", field=what) from error


def parse_json(text: str, what: str) -> Any:
    """The JSON in a text. Raises `InvalidJob`, which begins with `what`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidJob(f"{what}: is not JSON: {error}", field=what) from error


def _param(text: str) -> tuple[str, Any]:
    name, value = _parted(text, "--param", "NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _image(text: str) -> tuple[str, dict[str, str]]:
    name, file = _parted(text, "--image", "NAME=FILE")
    try:
        return name, {"image": base64.b64encode(Path(file).read_bytes()).decode()}
    except OSError as error:
        raise InvalidJob(f"--image: {file}: {error.strerror}", field=name) from error


def _parted(text: str, option: str, form: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not {form}", param_hint=option)
    return name, value
