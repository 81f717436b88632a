"""Where settings come from: the environment, Django's `settings.RYLA`, Flask's `app.config["RYLA"]`, a .env file.

All of them say the same things by the same names, so one reader serves them: `REDIS_URL`, `ENDPOINT_<NAME>`,
`ENDPOINTS`, `ACCOUNT_<NAME>`, and `RUNPOD_API_KEY`; in the environment and in a .env file with RYLA_ in front.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from ryla_tasks.config.endpoints import Given
from ryla_tasks.logs import Log

__all__ = [
    "PREFIX",
    "DjangoSource",
    "DotenvSource",
    "EnvironmentSource",
    "FlaskSource",
    "VariableSource",
    "django_settings",
    "frameworks",
    "take_flask_config",
    "variable_for",
]

PREFIX = "RYLA_"
ENV_FILE_VARIABLE = "RYLA_ENV_FILE"
_API_KEY = "RUNPOD_API_KEY"
_ENDPOINT = "ENDPOINT_"
_ACCOUNT = "ACCOUNT_"
_BROKEN_MAP = "*"

log = Log(__name__)


def variable_for(*loc: str | int) -> str:
    """The environment variable of a setting, by its place in the model: ("redis_url",), ("endpoints", "image")."""
    field, name = str(loc[0]), str(loc[1]) if len(loc) > 1 else _BROKEN_MAP
    if field == "runpod_api_key":
        return _API_KEY
    # A name with a dash can be no part of a variable's name in a shell: it is set in the map of all.
    if field in ("endpoints", "accounts") and name != _BROKEN_MAP and "-" not in name:
        return f"{PREFIX}{_ENDPOINT if field == 'endpoints' else _ACCOUNT}{name.upper()}"
    return PREFIX + field.upper()


class VariableSource(PydanticBaseSettingsSource):
    """A source that names settings as the environment does. `label` tells people where a value came from."""

    label = ""

    def variables(self) -> Mapping[str, Any]:
        """What the source holds: by upper-case name, without the prefix."""
        raise NotImplementedError

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return self.variables().get(field_name.upper()), field_name, False

    def unknown(self, names: list[str]) -> dict[str, Any]:
        """What to do with names that are no setting: by default a warning about likely misspellings.

        Only that, because the environment belongs to the whole application, which may well use RYLA_ names of its own.
        """
        known = [name.upper() for name in self.settings_cls.model_fields]
        for name in names:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if close:
                log.warning(
                    "setting.unknown", variable=PREFIX + name, source=self.label, did_you_mean=PREFIX + close[0]
                )
        return {}

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        unknown: list[str] = []
        variables = self.variables()
        # ENDPOINTS comes before ENDPOINT_X, so that the particular name wins.
        for name in sorted(variables, key=lambda name: (name not in ("ENDPOINTS", "ACCOUNTS"), name)):
            value = variables[name]
            if name in ("ENDPOINTS", "ACCOUNTS"):
                values[name.lower()] = _read_map(value)
            elif name.startswith(_ENDPOINT) and name != _ENDPOINT:
                values.setdefault("endpoints", {})[name.removeprefix(_ENDPOINT).lower()] = Given(value)
            elif name.startswith(_ACCOUNT) and name != _ACCOUNT:
                values.setdefault("accounts", {})[name.removeprefix(_ACCOUNT).lower()] = value
            elif name.lower() in self.settings_cls.model_fields:
                values[name.lower()] = value
            else:
                unknown.append(name)
        return {**values, **self.unknown(unknown)}


def _read_map(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            return {_BROKEN_MAP: Given(None, problem=f"is not valid JSON: {error}")}
    if not isinstance(value, Mapping):
        return {_BROKEN_MAP: Given(None, problem="must be a JSON object from name to value")}
    return {str(name): Given(item) for name, item in value.items()}


def _without_prefix(variables: Mapping[str, str | None]) -> dict[str, str]:
    # An empty variable is an unset one: compose files and CI write VAR= for what they have no value for.
    found = {name.removeprefix(PREFIX): value for name, value in variables.items() if name.startswith(PREFIX) and value}
    found.pop(ENV_FILE_VARIABLE.removeprefix(PREFIX), None)
    key = variables.get(_API_KEY)
    if key:
        found.setdefault(_API_KEY, key)
    return found


class EnvironmentSource(VariableSource):
    """The process's environment."""

    label = "environment"

    def variables(self) -> Mapping[str, Any]:
        return _without_prefix(os.environ)


class DotenvSource(VariableSource):
    """A .env file: the one that RYLA_ENV_FILE names (set but empty: none), else `.env` in the working directory."""

    label = ".env file"

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.path = os.environ.get(ENV_FILE_VARIABLE, ".env")

    def variables(self) -> Mapping[str, Any]:
        if not self.path or not Path(self.path).is_file():
            return {}
        return _without_prefix(dotenv_values(self.path, encoding="utf-8"))


def django_settings() -> Mapping[str, Any] | None:
    """Django's `settings.RYLA`, or None where Django is not imported or not configured. Never imports Django.

    While Django is still importing its settings module it is not configured, so asking from there is safe.
    """
    conf = sys.modules.get("django.conf")
    settings = getattr(conf, "settings", None)
    if settings is None or not settings.configured:
        return None
    found = getattr(settings, "RYLA", {})
    return found if isinstance(found, Mapping) else {"RYLA": found}


class FrameworkSource(VariableSource):
    """A dict in a framework's own settings; the names of its keys may be in either case."""

    def given(self) -> Mapping[str, Any]:
        """What the framework has."""
        raise NotImplementedError

    def variables(self) -> Mapping[str, Any]:
        return {str(name).upper(): value for name, value in self.given().items()}

    def unknown(self, names: list[str]) -> dict[str, Any]:
        """That dict is ours alone, so a wrong name in it is an error, which the model reports."""
        return {name.lower(): None for name in names}


class DjangoSource(FrameworkSource):
    """The dict `RYLA` in Django's settings."""

    label = "Django's settings.RYLA"

    def given(self) -> Mapping[str, Any]:
        return django_settings() or {}


_flask_configs: list[Mapping[str, Any]] = []


def take_flask_config(config: Any) -> None:
    """Take a Flask app's `config["RYLA"]`, which Flask shows nobody outside of a request. The last app's counts."""
    given = config if isinstance(config, Mapping) else {"RYLA": config}
    if not _flask_configs or _flask_configs[-1] != given:
        _flask_configs.append(dict(given))


class FlaskSource(FrameworkSource):
    """The dict `RYLA` in the config of the Flask app that was last made."""

    label = "Flask's app.config['RYLA']"

    def given(self) -> Mapping[str, Any]:
        return _flask_configs[-1] if _flask_configs else {}


def frameworks() -> tuple[bool, int]:
    """Changes when a framework's settings have come to be known: what was read before is then read anew."""
    return django_settings() is not None, len(_flask_configs)
