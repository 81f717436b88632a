"""docs/settings.md, made from the models of the settings: a test fails where the two differ."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ryla_tasks.config.endpoints import Endpoint
from ryla_tasks.config.model import Settings
from ryla_tasks.config.sources import variable_for
from ryla_tasks.config.targets import Limits, Target

__all__ = ["page"]

_HEAD = """\
# Settings

Made from the models in `ryla_tasks/config` by `python -m ryla_tasks.config > docs/settings.md`; do not edit.

A setting is taken from the first of these that has it: `ryla_tasks.configure(redis_url=...)`, the environment
(`RYLA_REDIS_URL`), Django's `settings.RYLA` (`{"REDIS_URL": ...}`), a `.env` file in the working directory or the one
that `RYLA_ENV_FILE` names. `RUNPOD_API_KEY` and `RYLA_ENDPOINT_IMAGE=<endpoint id>` are enough to start. Wrong settings
are one error that names each variable. An empty variable counts as not set.
"""

_ENDPOINT = """\
## An endpoint

What a job names, for instance `image`. As a variable it is an endpoint id, a JSON object of the fields below, or a JSON
list of targets:

    RYLA_ENDPOINT_IMAGE=abc123
    RYLA_ENDPOINT_IMAGE={"endpoint_id": "abc123", "gpu": "RTX 4090", "execution_timeout_s": 300}
    RYLA_ENDPOINT_IMAGE=["abc123", {"endpoint_id": "def456", "account": "backup"}]

Where a default differs by kind it stands as image / lora / special.
"""

_TARGET = """\
## A target

One endpoint at one GPU cloud, under one account. The fields of an endpoint's only target may stand beside its own.
"""

_LIMITS = "## Limits of a target\n"

_HEADING = re.compile(r"^    # --- (?P<name>.+) ---$|^    (?P<field>[a-z][a-z0-9_]*): ", re.MULTILINE)

_PLAIN: dict[Any, str] = {
    str: "text", bool: "true or false", int: "whole number", float: "number", Path: "a path", SecretStr: "text, secret",
}  # fmt: skip


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD.rstrip("\n")]
    for section, names in _sections():
        parts += [f"\n## {section}\n", *_table(Settings, names, as_variables=True)]
    parts += ["\n" + _ENDPOINT, *_table(Endpoint, list(Endpoint.model_fields))]
    parts += ["\n" + _TARGET, *_table(Target, list(Target.model_fields))]
    parts += ["\n" + _LIMITS, *_table(Limits, list(Limits.model_fields))]
    return "\n".join(parts) + "\n"


def _sections() -> Iterator[tuple[str, list[str]]]:
    """The headings in the source of the model, each with the settings beneath it."""
    section, names = "", list[str]()
    for match in _HEADING.finditer(inspect.getsource(Settings)):
        if match["name"]:
            if names:
                yield section, names
            section, names = match["name"], []
        elif match["field"] in Settings.model_fields:
            names.append(match["field"])
    yield section, names


def _table(model: type[BaseModel], names: list[str], *, as_variables: bool = False) -> Iterator[str]:
    yield f"| {'variable' if as_variables else 'field'} | takes | default | what |"
    yield "|---|---|---|---|"
    for name in names:
        field = model.model_fields[name]
        shown = _variable(name) if as_variables else name
        cells = (f"`{shown}`", _takes(field), _default(field), (field.description or "").replace("<", "&lt;"))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _variable(name: str) -> str:
    several = {"accounts": "RYLA_ACCOUNT_<NAME>", "endpoints": "RYLA_ENDPOINT_<NAME>"}
    return several.get(name) or variable_for(name)


def _takes(field: FieldInfo) -> str:
    return _kind(field.annotation) + _range(field.metadata)


def _kind(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(one) for one in inner if one is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin is tuple:
        return f"a list of: {_kind(inner[0])}"
    if origin is dict:
        return f"by name: {_kind(inner[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__.lower()}](#{_ANCHORS[annotation.__name__]})"
    return _PLAIN.get(annotation, "text")


_ANCHORS = {"Endpoint": "an-endpoint", "Target": "a-target", "Limits": "limits-of-a-target"}


def _range(metadata: list[Any]) -> str:
    words = []
    for one in metadata:
        match one:
            case Ge(ge=low):
                words.append(f"from {_number(low)}")
            case Gt(gt=low):
                words.append(f"over {_number(low)}")
            case Le(le=high):
                words.append(f"to {_number(high)}")
            case Lt(lt=high):
                words.append(f"below {_number(high)}")
    return f", {' '.join(words)}" if words else ""


def _number(bound: Any) -> str:
    return f"{bound:,g}" if bound < 1 else f"{int(bound):,}"


def _default(field: FieldInfo) -> str:
    """What counts where it is not set; what depends on other settings says its description."""
    if field.default_factory is dict:
        return "none"
    if field.default_factory is not None:
        return "see there"
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None or field.default in ("", (), {}):
        return "none"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple):
        return f"`{list(field.default)}`"
    return f"`{field.default}`"
