"""The thread of a worker process that sends alerts on: one of the whole fleet at a time.

Each service has its own place in the stream, kept in Redis after each message, so that nothing is lost when the sender
ends, and a service that is down holds up no other. A message is at least once: where a process dies between sending and
noting, the next one sends that message again, with the same id in it. Jobs never wait for any of this.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ryla_tasks.alerts.alert import Alert, digest_of
from ryla_tasks.alerts.kinds import Severity
from ryla_tasks.alerts.services import Service
from ryla_tasks.errors import RylaError
from ryla_tasks.logs import Log
from ryla_tasks.store.alerts import AlertStore, Told, Turn

__all__ = ["LEASE_S", "AlertSender", "Rules", "new_token"]

log = Log(__name__)

#: Longer than the longest message.
LEASE_S = 60.0

_LOOK_S = 2.0

#: How long the end of a worker waits for a message under way.
_STOP_S = 2.0

_HOUR_S = 3_600.0
_MOST = 200

#: A service that was not there before is told what is not older than this.
_FIRST_S = 3_600.0

_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 5.0, 900.0

#: So many tries (two hours) for one message; then it is left out, because others wait behind it.
_MOST_TRIES = 15


def new_token() -> str:
    """The name of a sender."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is sent: alerts of at least this severity, and so many messages an hour to each service."""

    least: Severity = Severity.WARNING
    per_hour: int = 10


@dataclass(slots=True)
class _Trouble:
    tries: int = 0
    until: float = 0.0


class AlertSender(threading.Thread):
    """Sends until stopped. Redis or a service being away is no reason to end."""

    def __init__(
        self, store: AlertStore, services: Sequence[Service], rules: Rules, *, look_s: float = _LOOK_S
    ) -> None:
        super().__init__(name="ryla-alerts", daemon=True)
        self._store = store
        self._services = services
        self._rules = rules
        self._look_s = look_s
        self._stopping = threading.Event()
        self._troubles = {service.key: _Trouble() for service in services}

    def run(self) -> None:
        while not self._stopping.wait(self._look_s):
            try:
                self.look()
            except RylaError as error:
                log.warning("alert.failed", error=error)
            except Exception:
                log.exception("alert.broken")

    def stop(self) -> None:
        """End after the message under way, and let another process go on: at once, or when the lease has ended."""
        self._stopping.set()
        if self.is_alive():
            self.join(_STOP_S)
        if self.is_alive():
            return
        try:
            self._store.leave()
        except RylaError:
            return  # the lease ends by itself

    def look(self) -> None:
        """Send what there is to send, if it is this process's turn. Raises `StoreError`."""
        for service in self._services:
            # Asked anew for each: one that hangs takes a good part of the lease.
            turn = self._store.turn()
            if turn is None:
                return
            if self._troubles[service.key].until <= time.monotonic():
                self._serve(service, turn)

    def _serve(self, service: Service, turn: Turn) -> None:
        """Send a service what it has not been told, as far as the hour's limit lets through."""
        told = turn.told.get(service.key) or Told(f"{round((turn.now - _FIRST_S) * 1000)}-0")
        held = told.sent >= self._rules.per_hour
        if held and turn.now < told.since + _HOUR_S:
            return
        events = self._store.after(told.position, _MOST)
        while events and not self._stopping.is_set():
            alerts = [Alert.of(event) for event in events]
            wanted = [alert for alert in alerts if alert.severity.at_least(self._rules.least)]
            if turn.now >= told.since + _HOUR_S:
                told = Told(told.position, turn.now, 0)
            if not wanted:
                self._note(service, Told(events[-1].position, told.since, told.sent))
                return
            if held and len(wanted) > 1:
                upto, sent = events[-1].position, self._send(service, *digest_of(wanted), digest=len(wanted))
            else:
                first = wanted[0]
                upto, sent = first.id, self._send(service, first.title, first.body, first.severity, alert=first)
            if not sent:
                return
            held, told = False, Told(upto, told.since, told.sent + 1)
            if not self._note(service, told) or told.sent >= self._rules.per_hour:
                return
            events = [event for event in events if _after(event.position, upto)]

    def _note(self, service: Service, told: Told) -> bool:
        return self._store.note(service.key, told)

    def _send(
        self,
        service: Service,
        title: str,
        body: str,
        severity: Severity,
        *,
        alert: Alert | None = None,
        digest: int = 0,
    ) -> bool:
        """Send a message. True where it was accepted, or is given up."""
        trouble = self._troubles[service.key]
        if service.send(title, body, severity):
            self._troubles[service.key] = _Trouble()
            if alert is not None:
                log.info("alert.sent", service=service.name, alert=alert.id, kind=alert.kind)
            else:
                log.info("alert.digest", service=service.name, alerts=digest)
            return True
        trouble.tries += 1
        if trouble.tries >= _MOST_TRIES:
            log.error("alert.given_up", service=service.name, tries=trouble.tries, alert=alert.id if alert else None)
            self._troubles[service.key] = _Trouble()
            return True
        in_s = min(_BACKOFF_FIRST_S * 2 ** (trouble.tries - 1), _BACKOFF_MOST_S)
        trouble.until = time.monotonic() + in_s
        log.warning("alert.not_sent", service=service.name, tries=trouble.tries, in_s=in_s)
        return False


def _after(position: str, other: str) -> bool:
    """Whether a position in a stream comes after another."""
    return [int(part) for part in position.split("-")] > [int(part) for part in other.split("-")]
