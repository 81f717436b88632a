"""What Flower is told besides the FLOWER_ variables, and whether it may start: not open to others without a login.

Flower reads FLOWER_ variables first, then the command line, then its configuration file, which so goes before the
variables, then the command line once more (flower/command.py). What a variable says is left alone here.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from ryla_tasks.errors import ConfigurationError

__all__ = ["flower_options"]

_LOOPBACK = "127.0.0.1"

#: What is better for jobs than Flower's own defaults.
_BETTER: dict[str, Any] = {
    # Jobs of hours outlive a restart of Flower: without this their rows would be gone until their end. It is written
    # each minute, not only at an orderly end.
    "persistent": True,
    "db": "flower.db",
    "state_save_interval": 60_000,
    "max_tasks": 20_000,
    # Workers have their process ids in their names, so that each restart leaves one that never comes back.
    "purge_offline_workers": 3_600,
    "tasks_columns": "name,uuid,state,kwargs,result,received,runtime",
}

_OAUTH = ("auth_provider", "oauth2_key", "oauth2_secret", "oauth2_redirect_uri")


def flower_options() -> dict[str, Any]:
    """The options to set in a `flowerconfig.py`, by name. Without an address Flower listens on the loopback one.

    Raises `ConfigurationError` where Flower would be open to other machines without a login, or where a login is half
    set up.
    """
    from tornado.options import options

    given: dict[str, Any] = options.as_dict()
    address = given["address"] or _LOOPBACK
    protected = _has_passwords(given) or _has_oauth(given)
    if not protected and not given["unix_socket"] and not _is_loopback(address):
        raise ConfigurationError(
            f"FLOWER_ADDRESS: is {address}, which other machines reach, and there is no login: set FLOWER_BASIC_AUTH "
            f"to user:password, or FLOWER_AUTH with a provider",
            setting="FLOWER_BASIC_AUTH",
        )
    chosen = {name: value for name, value in _BETTER.items() if f"FLOWER_{name.upper()}" not in os.environ}
    return {**chosen, "address": address}


def _has_passwords(given: dict[str, Any]) -> bool:
    for pair in given["basic_auth"] or ():
        user, _, password = str(pair).partition(":")
        if not user or not password:
            raise ConfigurationError(
                "FLOWER_BASIC_AUTH: must be user:password, or several of them with commas between",
                setting="FLOWER_BASIC_AUTH",
            )
    return bool(given["basic_auth"])


def _has_oauth(given: dict[str, Any]) -> bool:
    if not given["auth"]:
        return False
    lacking = [name for name in _OAUTH if not given[name] and not os.environ.get(f"FLOWER_{name.upper()}")]
    if lacking:
        name = f"FLOWER_{lacking[0].upper()}"
        raise ConfigurationError(f"{name}: must be set, because FLOWER_AUTH is", setting=name)
    return True


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"
