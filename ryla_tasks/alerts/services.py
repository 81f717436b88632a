"""The services that alerts go to, through apprise (extra `alerts`): Slack, mail, webhooks and some 130 others."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from pydantic import SecretStr

from ryla_tasks.alerts.kinds import Severity
from ryla_tasks.errors import ConfigurationError

try:
    import apprise
except ImportError as error:
    raise ConfigurationError(
        "alerts are sent by apprise, which is not installed: pip install 'ryla-tasks[alerts]'", "RYLA_ALERT_URLS"
    ) from error

__all__ = ["Service", "services_of"]

#: How long one message may take, in seconds, whatever the service does.
_SEND_S = 20.0

_TYPES = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}

# Its lines name addresses, and those hold secrets; what came of a message is in the log of ours.
logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)


class Service:
    """A service. Its `name` is scheme and host and no more; `key` tells services apart and gives nothing away."""

    def __init__(self, url: SecretStr) -> None:
        address = url.get_secret_value()
        self.key = hashlib.sha256(address.encode()).hexdigest()[:16]
        scheme, _, rest = address.partition("://")
        # What stands first in an address is a host in some schemes and a token in others.
        host = rest.partition("?")[0].partition("/")[0].rpartition("@")[2]
        self.name = f"{scheme}://{host if scheme in _WITH_HOST else '...'}"
        plugin: Any = apprise.Apprise.instantiate(address, suppress_exceptions=True)
        if plugin is None:
            raise ConfigurationError(
                f"RYLA_ALERT_URLS: {self.name} is no address that apprise knows; see its list of services",
                "RYLA_ALERT_URLS",
            )
        self._apprise = apprise.Apprise()
        self._apprise.add(plugin)

    def __repr__(self) -> str:
        return f"Service({self.name})"

    def send(self, title: str, body: str, severity: Severity) -> bool:
        """Send a message; whether it was accepted. Takes at most 20 seconds and does not raise."""
        try:
            kind = _TYPES[severity]
            return bool(self._apprise.notify(body, title=title, notify_type=kind, body_format="text", timeout=_SEND_S))
        except Exception:
            # Plugins are of many hands; none of them is to end the sender. What they say may hold the address.
            return False


#: Schemes whose addresses begin with the host of a server, as apprise documents them.
_WITH_HOST = frozenset({
    "json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "ntfy", "ntfys", "gotify", "gotifys",
    "matrix", "matrixs", "mmost", "mmosts", "rocket", "rockets", "syslog", "mqtt", "mqtts", "http", "https",
})  # fmt: skip


def services_of(urls: tuple[SecretStr, ...]) -> list[Service]:
    """The services of a setting. Raises `ConfigurationError` for an address that is none."""
    return [Service(url) for url in urls]
