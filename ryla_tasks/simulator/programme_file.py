"""Reads a fault programme from YAML; what is wrong with it is told with its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigurationError
from .programme import FaultProgramme

__all__ = ["read_programme"]


def read_programme(file: Path) -> FaultProgramme:
    """The programme in a YAML file. Raises `ConfigurationError` with the line and the field at fault."""
    try:
        import yaml
    except ImportError as error:
        message = "a fault programme needs PyYAML, which is not installed: pip install 'ryla-tasks[simulator]'"
        raise ConfigurationError(message, "--faults") from error
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        if node is not None:
            _refuse_doubles(file, node)
        data = {} if node is None else yaml.SafeLoader("").construct_document(node)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}", "--faults") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}, line {mark.line + 1}" if mark is not None else str(file)
        raise ConfigurationError(f"{where}: not YAML: {error.problem}", "--faults") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is not YAML: {error}", "--faults") from error
    try:
        return FaultProgramme.model_validate(data)
    except ValidationError as error:
        line, field, reason = _worst(node, error)
        raise ConfigurationError(f"{file}, line {line}: {f'{field}: ' if field else ''}{reason}", field) from error


def _worst(node: Any, error: ValidationError) -> tuple[int, str, str]:
    """Where and what the error is that says most: a field with a wrong name, before the one that it leaves missing."""
    errors = error.errors(include_input=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    line, field = _place(node, first["loc"], missing=first["type"] == "missing")
    if not first["loc"]:
        return line, field, "a fault programme has the fields seed and phases"
    reason = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"]
    return line, field, reason.removeprefix("Value error, ")


def _refuse_doubles(file: Path, node: Any) -> None:
    """YAML's loader would take the last of two fields with one name in silence."""
    seen: set[str] = set()
    for key, value in _pairs(node):
        if key.value in seen:
            raise ConfigurationError(f"{file}, line {key.start_mark.line + 1}: {key.value}: given twice", key.value)
        seen.add(key.value)
        _refuse_doubles(file, value)
    for value in _items(node):
        _refuse_doubles(file, value)


def _place(node: Any, location: Sequence[int | str], *, missing: bool) -> tuple[int, str]:
    """The line of a field, or of what it is missing from, and its name with dots."""
    line = 1 if node is None else node.start_mark.line + 1
    names: list[str] = []
    for depth, part in enumerate(location, 1):
        items = _items(node)
        found = {str(number): value for number, value in enumerate(items)}
        lines = {name: value.start_mark.line + 1 for name, value in found.items()}
        for key, value in _pairs(node):
            found[key.value] = value
            lines[key.value] = key.start_mark.line + 1
        name = str(part)
        if name in found:
            node, line = found[name], lines[name]
        elif not (missing and depth == len(location)):
            continue  # pydantic names the kind of a fault between its place and its field
        names.append(name)
    return line, ".".join(names)


def _pairs(node: Any) -> list[tuple[Any, Any]]:
    return node.value if getattr(node, "id", None) == "mapping" else []


def _items(node: Any) -> list[Any]:
    return node.value if getattr(node, "id", None) == "sequence" else []
