"""AI Toolkit's log of losses: `loss_log.db`, SQLite, written while we read it."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LossRow", "read_losses"]

_LOSS_KEY = "loss/loss"
_WINDOW = 50


@dataclass(frozen=True, slots=True)
class LossRow:
    """The newest of the log. `done` is the number of steps done; `rate_s` is seconds a step over the last ones."""

    done: int
    loss: float | None
    rate_s: float | None


def read_losses(file: Path) -> LossRow | None:
    """What the log says last; None while there is none, or while it cannot be read. Blocks; run it in a thread.

    Its step n is the one that has just been done, counted from 0, so n + 1 are done.
    """
    if not file.is_file():
        return None
    try:
        # Read-only: the file is the trainer's, and a reader that creates it would be in its way.
        uri = f"{file.resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1.0)) as connection:
            steps = connection.execute(
                "SELECT step, wall_time FROM steps ORDER BY step DESC LIMIT ?", (_WINDOW,)
            ).fetchall()
            loss = connection.execute(
                "SELECT value_real FROM metrics WHERE key = ? ORDER BY step DESC LIMIT 1", (_LOSS_KEY,)
            ).fetchone()
    except sqlite3.Error:
        return None
    if not steps or not isinstance(steps[0][0], int):
        return None
    (newest, ended), (oldest, began) = steps[0], steps[-1]
    rate = (ended - began) / (newest - oldest) if newest > oldest and ended > began else None
    value = loss[0] if loss else None
    return LossRow(newest + 1, value if isinstance(value, float) else None, rate)
