"""Where templates are found: those that come with the package, and a folder of the user's own."""

from __future__ import annotations

import difflib
import os
import re
from functools import lru_cache
from pathlib import Path

from ryla_tasks.errors import ConfigurationError, UnknownTemplate
from ryla_tasks.workflows.fallbacks import check_fallbacks
from ryla_tasks.workflows.manifest import Manifest
from ryla_tasks.workflows.template import Template, load_template

__all__ = ["get_template", "list_templates"]

_BUILTIN = Path(__file__).parent / "builtin"
_FILES = ("manifest.json", "workflow.json")
_NAME = re.compile(r"[\w.-]{1,60}")


def get_template(name: str, folder: str | os.PathLike[str] | None = None) -> Template:
    """The template of this name; one in the user's `folder` goes before a built-in one of the same name.

    A template is a folder named like it, with `manifest.json` and `workflow.json`. Files changed on disk are read
    again. Raises `UnknownTemplate`, which lists the names, and `ConfigurationError` for a template that is wrong, or
    falls back to one that is.
    """
    return _checked(_found(name, folder), folder)


def _found(name: str, folder: str | os.PathLike[str] | None) -> Template:
    """The template of this name, without a look at its fallbacks."""
    place = _place(name, folder)
    if place is None:
        raise UnknownTemplate(_unknown(name, sorted(_places(folder))), field="template")
    return _load(place, _stamp(place))


def list_templates(folder: str | os.PathLike[str] | None = None) -> list[Manifest]:
    """The manifests of all templates, by name. Raises `ConfigurationError` if one of them is wrong."""
    loaded = [_load(place, _stamp(place)) for _, place in sorted(_places(folder).items())]
    return [_checked(template, folder).manifest for template in loaded]


def _checked(template: Template, folder: str | os.PathLike[str] | None) -> Template:
    if template.manifest.fallbacks:
        check_fallbacks(template, lambda name: _found(name, folder))
    return template


def _place(name: str, folder: str | os.PathLike[str] | None) -> Path | None:
    """The folder of a template, without a look at the others: every enqueue comes by here."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    parents = [_BUILTIN] if folder is None else [_own(folder), _BUILTIN]
    return next((parent / name for parent in parents if (parent / name / _FILES[0]).is_file()), None)


def _own(folder: str | os.PathLike[str]) -> Path:
    own = Path(folder).expanduser().absolute()
    if not own.is_dir():
        raise ConfigurationError(f"the folder of templates {str(own)!r} does not exist")
    return own


def _places(folder: str | os.PathLike[str] | None) -> dict[str, Path]:
    places = _folders(_BUILTIN)
    if folder is not None:
        places |= _folders(_own(folder))
    return places


def _folders(parent: Path) -> dict[str, Path]:
    return {place.name: place for place in parent.iterdir() if (place / _FILES[0]).is_file()}


def _stamp(place: Path) -> tuple[int, ...]:
    """What changes when one of the template's files does."""
    stamps = [(place / name).stat() for name in _FILES if (place / name).exists()]
    return tuple(number for stamp in stamps for number in (stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=256)
def _load(place: Path, _stamp: tuple[int, ...]) -> Template:
    return load_template(place)


def _unknown(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"there is no template {str(name)[:100]!r}{hint}; there are: {', '.join(names)}"
