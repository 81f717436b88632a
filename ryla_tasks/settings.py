"""Every setting of ryla_tasks, where it comes from, and what it may be.

A setting is taken from the first of these that has it:

1. what the program says: `configure(redis_url=...)`
2. the environment: `RYLA_REDIS_URL`
3. Django's `settings.RYLA`: `{"REDIS_URL": ...}`, if Django is in use; ryla_tasks never imports Django for it.
   Flask's `app.config["RYLA"]`, the same, from when `ryla_tasks.contrib.flask.Ryla` has been given the app
4. a `.env` file in the working directory, or the one that `RYLA_ENV_FILE` names (`RYLA_ENV_FILE=` for none)

`RUNPOD_API_KEY` and `RYLA_ENDPOINT_IMAGE=<endpoint id>` are enough to start. Nothing is read when the package is
imported, but when something first asks; wrong settings are then one `ConfigurationError`, one line each. An empty
variable counts as not set.

Endpoints have names. `image`, `lora` and `special` have defaults of their own, and any other may be added:

    RYLA_ENDPOINT_IMAGE=abc123
    RYLA_ENDPOINT_IMAGE={"endpoint_id": "abc123", "gpu": "RTX 4090", "execution_timeout_s": 300}
    RYLA_ENDPOINT_IMAGE=["abc123", {"endpoint_id": "def456", "account": "backup"}]
    RYLA_ENDPOINTS={"image": "abc123", "upscale": {"kind": "image", "targets": ["ghi789"]}}
    RYLA_ACCOUNT_BACKUP=<the API key of the account that is called backup here>
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ryla_tasks.config.endpoints import Endpoint, Kind
from ryla_tasks.config.model import Settings
from ryla_tasks.config.sources import frameworks, variable_for
from ryla_tasks.config.targets import DEFAULT_ACCOUNT, Limits, Target, TargetRef, parse_target_id

__all__ = [
    "DEFAULT_ACCOUNT",
    "Endpoint",
    "Kind",
    "Limits",
    "Settings",
    "Target",
    "TargetRef",
    "configure",
    "get_settings",
    "parse_target_id",
    "reset_settings",
    "restored_settings",
    "variable_for",
]

_lock = threading.RLock()
_explicit: dict[str, Any] = {}
_current: Settings | None = None
_knew = (False, 0)


def get_settings() -> Settings:
    """The process's settings: read when first asked for, then kept. Raises `ConfigurationError`.

    They are read a second time when Django has come to be configured since, or a Flask app has been made, so that the
    order of imports in a project does not matter.
    """
    global _current, _knew
    with _lock:
        knows = frameworks()
        if _current is None or knows > _knew:
            _current, _knew = Settings(**_explicit), knows
        return _current


def configure(**explicit: Any) -> Settings:
    """Set settings from the program, over every other source; what was set by an earlier call stays.

    Raises `ConfigurationError`, and then changes nothing. What has been built from the settings before is not changed
    either, so this is called early.
    """
    global _current, _knew
    with _lock:
        merged = {**_explicit, **explicit}
        _current, _knew = Settings(**merged), frameworks()
        _explicit.update(explicit)
        return _current


@contextmanager
def restored_settings() -> Iterator[None]:
    """For the length of a block `configure` may say what it likes: all is as before then. For tests."""
    global _current, _knew
    with _lock:
        kept = dict(_explicit), _current, _knew
    try:
        yield
    finally:
        with _lock:
            _explicit.clear()
            _explicit.update(kept[0])
            _current, _knew = kept[1:]


def reset_settings() -> None:
    """Forget everything that was read or set by `configure`; the next `get_settings` reads anew. For tests."""
    global _current, _knew
    with _lock:
        _explicit.clear()
        _current, _knew = None, (False, 0)
