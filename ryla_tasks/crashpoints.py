"""Named places where a process of ours can be made to die or freeze: wherever state and the outside world can differ.

A claim such as "nothing is submitted twice" is worth as much as the places at which somebody tried to refute it. Each
place has a name in `POINTS`; the chaos tests kill and freeze workers at every one of them. They are no-ops unless the
environment turns one on when the process starts:

    RYLA_CRASHPOINT=after_submit_before_record          SIGKILL at the first pass
    RYLA_CRASHPOINT=after_submit_before_record:3        at the third
    RYLA_CRASHPOINT=after_submit_before_record:1:freeze SIGSTOP; the process goes on when it gets SIGCONT
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping

from ryla_tasks.errors import ConfigurationError

__all__ = ["POINTS", "VARIABLE", "crashpoint"]

VARIABLE = "RYLA_CRASHPOINT"

#: Every point, and what is true at it.
POINTS: Mapping[str, str] = {
    "after_create_before_send": "The job is accepted; its submit message has not been sent.",
    "before_adoption_recorded": "A worker has a message from an app without the package; no record is written.",
    "after_adoption_before_submit": "That message's record is written; nothing is claimed.",
    "after_submit_claim": "The intent to submit is written; nothing has been sent.",
    "before_submit": "The lease was looked at for the last time; the POST is the next thing that happens.",
    "after_submit_before_record": "The endpoint has the job; nobody has written down its remote id.",
    "after_record_before_poll": "The remote id is written; no poll message has been sent.",
    "after_refusal_before_settle": "The endpoint refused, or did not answer; the record does not say so yet.",
    "after_submit_settle_before_message": "A refused or unanswered submit is settled; its next message is not sent.",
    "after_poll_claim": "Jobs are leased to a ride; nothing has been asked.",
    "after_ask_before_settle": "The endpoint has answered a ride; nothing of it is settled.",
    "after_poll_settle_before_message": "A ride is settled; the messages that follow from it are not sent.",
    "after_deliver_claim": "A finished job is leased for its delivery; its output was not touched.",
    "after_fetch_before_artifacts": "The output was fetched; none of its files is stored.",
    "after_artifacts_before_settle": "The files are stored; the record does not know the result.",
    "after_deliver_settle_before_return": "The result is in the record; Celery has not been told.",
    "after_return_before_delivered": "Celery has stored the result; the record says that it is owed still.",
    "before_remote_cancel": "A job is to stop; the endpoint has not been told.",
    "after_remote_cancel": "The endpoint was told to cancel; the record does not know.",
    "after_sweep_before_send": "The sweep has moved on what it found overdue; the messages are not sent.",
    "after_spread_claim": "A sheet is leased to have its cells made; none is made by this claim.",
    "after_cell_before_next": "A cell of a sheet is accepted; the next one is not made.",
    "after_cells_before_spread_settle": "All cells of a sheet are accepted; the record does not say so.",
    "after_adoption_ask_before_record": "The endpoint confirmed a remote job that a webhook named; it is not recorded.",
}


class _Armed:
    """The one point that is turned on in this process."""

    def __init__(self, wish: str) -> None:
        name, *rest = wish.split(":")
        nth, mode = [*rest, *("1", "kill")[len(rest) :]][:2]
        if name not in POINTS or not nth.isdecimal() or int(nth) < 1 or mode not in ("kill", "freeze") or len(rest) > 2:
            raise ConfigurationError(
                f"{VARIABLE}: {wish!r} is not NAME[:NTH[:kill|freeze]] with a name of ryla_tasks.crashpoints.POINTS",
                setting=VARIABLE,
            )
        self.name = name
        self._left = int(nth)
        self._signal = signal.SIGKILL if mode == "kill" else signal.SIGSTOP
        self._lock = threading.Lock()

    def passed(self) -> None:
        with self._lock:
            self._left -= 1
            due = self._left == 0
        if due:
            # To this very thread: one sent to the process may find another first, and this one would run on a while.
            signal.pthread_kill(threading.get_ident(), self._signal)


_armed = _Armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def crashpoint(name: str) -> None:
    """Do nothing, unless a test has turned this point on."""
    if _armed is not None and _armed.name == name:
        _armed.passed()
